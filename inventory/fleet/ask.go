package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/object"
)

// The routes of a cell.
const (
	ContainersRoute = "/containers"
	OpenedRoute     = "/opened"
	DropletRoute    = "/droplet" // its query is DigestKey=DIGEST
	DigestKey       = "digest"
)

// atOnce bounds the cells that are asked at the same time.
const atOnce = 32

// maxList bounds a file that lists sources, in bytes.
const maxList = 4 << 20

// Asker asks cells.
type Asker struct {
	Client *http.Client // its timeout bounds each request
	Now    func() time.Time
}

// Ask reads every source and returns the cells in the order of the sources. A
// source is an http or https URL, of a cell or of a document; a file of
// documents; or a file that lists sources, one a line, where # begins a comment.
// Ask fails for none: a source that cannot be read is a cell with Err.
func (a *Asker) Ask(ctx context.Context, sources []string) []Cell {
	var all []Cell
	var urls []string
	at := map[int][]Cell{} // answers of files, by the number of URLs before
	for _, s := range sources {
		if isURL(s) {
			urls = append(urls, s)
			continue
		}
		cells, more, err := a.file(s)
		if err != nil {
			cells = []Cell{{Name: s, Source: s, Asked: a.now(), Err: err}}
		}
		at[len(urls)] = append(at[len(urls)], cells...)
		urls = append(urls, more...)
	}
	answers := make([][]Cell, len(urls))
	each(len(urls), func(i int) { answers[i] = a.url(ctx, urls[i]) })
	for i := range len(urls) + 1 {
		all = append(all, at[i]...)
		if i < len(urls) {
			all = append(all, answers[i]...)
		}
	}
	return all
}

// each calls do for 0 to n-1, some at a time.
func each(n int, do func(i int)) {
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wg.Wait()
}

func (a *Asker) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

// file reads documents, or a list of URLs.
func (a *Asker) file(name string) (cells []Cell, urls []string, err error) {
	f, err := os.Open(name) // #nosec G304 -- the operator's
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReader(f)
	if isDocument(in) {
		cells, err = Parse(in, name)
	} else {
		urls, err = list(in)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	for i := range cells {
		cells[i].Source = name
		// Whichever is older: the file may have been copied.
		if cells[i].Asked.IsZero() || info.ModTime().Before(cells[i].Asked) {
			cells[i].Asked = info.ModTime()
		}
	}
	return cells, urls, nil
}

// isDocument looks at the first byte that is no space.
func isDocument(in *bufio.Reader) bool {
	for {
		b, err := in.ReadByte()
		if err != nil {
			return true // an empty file is an answer cut short
		}
		if !bytes.ContainsRune([]byte(" \t\r\n"), rune(b)) {
			in.UnreadByte() //nolint:errcheck // one was read
			return b == '{' || b == '['
		}
	}
}

func list(in io.Reader) (urls []string, err error) {
	limited := &io.LimitedReader{R: in, N: maxList}
	lines := bufio.NewScanner(limited)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if !isURL(line) {
			return nil, fmt.Errorf("%w, nor of cells: line %d is no http or https URL", ErrInvalid, n)
		}
		urls = append(urls, line)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("%w: over %d bytes", ErrInvalid, maxList)
	}
	if len(urls) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrInvalid)
	}
	return urls, nil
}

func (a *Asker) url(ctx context.Context, source string) []Cell {
	asked := a.now()
	cells, err := a.get(ctx, source)
	if err != nil {
		return []Cell{{Name: hostOf(source), Source: source, Asked: asked, Err: err}}
	}
	for i := range cells {
		cells[i].Source, cells[i].Asked = source, asked
	}
	return cells
}

func (a *Asker) get(ctx context.Context, source string) ([]Cell, error) {
	u, err := url.Parse(source)
	if err != nil {
		return nil, err
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = ContainersRoute
	}
	body, err := a.do(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // read before
	return Parse(body, hostOf(source))
}

func (a *Asker) do(ctx context.Context, method, to string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, err
	}
	resp, err := a.Client.Do(req)
	if err != nil {
		var u *url.Error // whose text repeats the URL
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close() //nolint:errcheck // not wanted
		return nil, fmt.Errorf("%s answers %s", to, resp.Status)
	}
	return resp.Body, nil
}

// MaxContents is how many contents a cell may be asked about at once.
const MaxContents = 4096

// Contents names contents, in the question and in the answer of [OpenedRoute].
type Contents struct {
	Contents []string `json:"contents"` // SHA-256, 64 hex digits each
}

// ContentsOf names some.
func ContentsOf(ids []object.ContentID) Contents {
	c := Contents{make([]string, len(ids))}
	for i, id := range ids {
		c.Contents[i] = id.String()
	}
	return c
}

// IDs reads the names. Its errors wrap [ErrInvalid], also for too many.
func (c Contents) IDs() ([]object.ContentID, error) {
	if len(c.Contents) > MaxContents {
		return nil, fmt.Errorf("%w: %d contents at once, %d are allowed", ErrInvalid, len(c.Contents), MaxContents)
	}
	ids := make([]object.ContentID, len(c.Contents))
	for i, text := range c.Contents {
		var err error
		if ids[i], err = object.ParseContentID(text); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return ids, nil
}

// Answers reports whether there is somebody behind c who can be asked more.
func (c *Cell) Answers() bool {
	u, err := url.Parse(c.Source)
	return err == nil && isURL(c.Source) && (u.Path == "" || u.Path == "/" || u.Path == ContainersRoute)
}

// Opened asks a cell which of some contents were ever opened on it, as far as
// it saw that. Of the others nothing is known. A cell that was read from a file
// knows nothing.
func (a *Asker) Opened(ctx context.Context, c *Cell, ids []object.ContentID) ([]object.ContentID, error) {
	if !c.Answers() {
		return nil, nil
	}
	u, err := url.Parse(c.Source)
	if err != nil {
		return nil, err
	}
	u.Path = OpenedRoute
	var opened []object.ContentID
	for len(ids) > 0 {
		some := ids[:min(len(ids), MaxContents)]
		ids = ids[len(some):]
		got, err := a.opened(ctx, u.String(), some)
		if err != nil {
			return nil, err
		}
		opened = append(opened, got...)
	}
	return opened, nil
}

func (a *Asker) opened(ctx context.Context, to string, ids []object.ContentID) ([]object.ContentID, error) {
	question, err := json.Marshal(ContentsOf(ids))
	if err != nil {
		return nil, err
	}
	body, err := a.do(ctx, http.MethodPost, to, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // read before
	var answer Contents
	if err := json.NewDecoder(io.LimitReader(body, MaxAnswer)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", to, ErrInvalid, err)
	}
	return answer.IDs()
}

func isURL(source string) bool {
	return strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://")
}

// hostOf calls a cell that does not say its name after its address.
func hostOf(source string) string {
	if u, err := url.Parse(source); err == nil {
		return u.Host
	}
	return source
}
