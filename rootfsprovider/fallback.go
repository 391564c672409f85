package rootfsprovider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/reference"
)

// Program is another image plugin, such as grootfs.
type Program struct {
	Path string   `json:"path"`
	Args []string `json:"args,omitempty"` // in front of the call
}

const (
	// maxAnswer bounds what another plugin may print, in bytes.
	maxAnswer = 1 << 20
	// killDelay is how long another plugin may take to end when told to.
	killDelay = 10 * time.Second
)

func (f *Program) check() error {
	if f == nil {
		return nil
	}
	return checkPath("fallback: path", f.Path)
}

// call runs the other plugin and returns what it prints. Its standard error is
// ours, lager lines from a plugin like us. The arguments may hold a password:
// they are in no error.
func (f *Program) call(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, f.Path, append(append([]string{}, f.Args...), args...)...)
	out := &limitedBuffer{most: maxAnswer}
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = killDelay
	err := cmd.Run()
	if err != nil {
		if said := strings.TrimSpace(out.String()); said != "" {
			return nil, fmt.Errorf("%s (fallback plugin: %w)", said, err)
		}
		return nil, fmt.Errorf("fallback plugin %s: %w", f.Path, err)
	}
	return out.Bytes(), nil
}

// limitedBuffer fails the program that prints too much.
type limitedBuffer struct {
	bytes.Buffer
	most int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		return 0, io.ErrShortWrite
	}
	return b.Buffer.Write(p)
}

// delegate lets the other plugin make the container. The note that it may have
// is on disk before it begins, so that whatever happens the delete reaches it.
// The handle's lock is held.
func (p *Provider) delegate(ctx context.Context, r Request, rec *Record) (json.RawMessage, error) {
	rec.Fallback = true
	if err := newRecord(p.store.record(r.Handle), *rec); err != nil {
		return nil, err
	}
	if err := p.step("recorded"); err != nil {
		return nil, err
	}
	if err := os.WriteFile(p.store.delegated(r.Handle), nil, 0o600); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := syncDir(p.store.delegated(r.Handle)); err != nil {
		return nil, err
	}
	if err := p.step("noted"); err != nil {
		return nil, err
	}
	doc, err := p.fallback.call(ctx, r.args()...)
	if err != nil {
		return nil, err
	}
	if err := p.step("delegated"); err != nil {
		return nil, err
	}
	if !json.Valid(doc) {
		return nil, fmt.Errorf("fallback plugin %s printed no JSON document", p.fallback.Path)
	}
	rec.State = stateReady
	if err := updateRecord(p.store.record(r.Handle), *rec); err != nil {
		return nil, err
	}
	if err := p.step("ready"); err != nil {
		return nil, err
	}
	return json.RawMessage(bytes.TrimSpace(doc)), nil
}

// args is the request as Garden wrote it.
func (r Request) args() []string {
	args := []string{"create"}
	if r.DiskLimit > 0 {
		args = append(args, "--disk-limit-size-bytes", strconv.FormatInt(r.DiskLimit, 10))
		if r.ExcludeImage {
			args = append(args, "--exclude-image-from-quota")
		}
	}
	if r.Username != "" {
		args = append(args, "--username", r.Username)
	}
	if r.Password != "" {
		args = append(args, "--password", r.Password)
	}
	return append(args, r.URI, r.Handle)
}

// undelegate has the other plugin delete what it may have made.
func (p *Provider) undelegate(ctx context.Context, handle string) error {
	if _, err := os.Lstat(p.store.delegated(handle)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if p.fallback == nil {
		return errors.New("another plugin made it, and the configuration has no fallback any more; put fallback back until it is deleted")
	}
	if _, err := p.fallback.call(ctx, "delete", handle); err != nil {
		return err
	}
	if err := p.step("undelegated"); err != nil {
		return err
	}
	if err := os.Remove(p.store.delegated(handle)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// passOn lets the other plugin delete a handle that the store does not know:
// it may have made the container before this plugin was configured.
func (p *Provider) passOn(ctx context.Context, handle string) error {
	if p.fallback == nil {
		p.log.Debug("nothing to delete", "handle", handle)
		return nil
	}
	_, err := p.fallback.call(ctx, "delete", handle)
	return err
}

// fallbackStats asks the other plugin, nil for none.
func (p *Provider) fallbackStats(ctx context.Context, handle string) (Stats, error) {
	if p.fallback == nil {
		return Stats{}, fmt.Errorf("%w %s", ErrUnknown, handle)
	}
	doc, err := p.fallback.call(ctx, "stats", handle)
	if err != nil {
		return Stats{}, fmt.Errorf("%w %s: %w", ErrUnknown, handle, err)
	}
	var s Stats
	if err := json.Unmarshal(doc, &s); err != nil {
		return Stats{}, fmt.Errorf("stats of %s: fallback plugin: %w", handle, err)
	}
	return s, nil
}

// wish has the publisher told of a public image that is not published. Names
// of other images are their owners' business. Whether that works is no matter
// of this container's.
func (p *Provider) wish(ctx context.Context, root Root) {
	w := p.conf.Wishes
	if w == nil || !p.conf.Public.Covers(root.Refs[0]) {
		return
	}
	token, err := fileText("wishes: token", w.Token)
	ca, caErr := fileText("wishes: ca", w.CA)
	if err = errors.Join(err, caErr); err == nil {
		err = p.daemon.Wish(ctx, control.WishRequest{URL: w.URL, CA: ca, Token: token, Image: imageName(root.Refs[0])})
	}
	if err != nil {
		p.log.Error("the publisher cannot be told", "image", imageName(root.Refs[0]), "error", err.Error())
	}
}

// imageName is an image's reference as registries' tools write it.
func imageName(ref reference.Reference) string {
	sep := ":"
	if _, ok := ref.Digest(); ok {
		sep = "@"
	}
	return ref.Name + sep + ref.Version
}

// unpublished says what to do about an image that is not published and that no
// other plugin is there for.
func unpublished(root Root, err error) error {
	if !root.Image || !errors.Is(err, control.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w; publish it with: rootstock publish image docker://%s, or configure a fallback plugin", err, imageName(root.Refs[0]))
}
