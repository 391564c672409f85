package flatten_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/flatten"
)

// oneLayer is a layer in memory.
type oneLayer []byte

func (l oneLayer) Open(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l)), nil
}

type hashing struct{}

func (hashing) Take(_ context.Context, _ int64, r io.Reader, named func(object.ContentID)) error {
	b, err := io.ReadAll(r)
	named(object.ContentOf(b))
	return err
}

func (hashing) Settle() error { return nil }

// witness notes what a watcher is told.
type witness struct {
	bytes.Buffer
	fail error
	done []object.ContentID
}

func (w *witness) Write(p []byte) (int, error) {
	if w.fail != nil {
		return 0, w.fail
	}
	return w.Buffer.Write(p)
}

func (w *witness) Done(id object.ContentID) { w.done = append(w.done, id) }

func TestWatch(t *testing.T) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, name := range []string{"./etc/", "./etc/wanted", "./etc/other"} {
		h := &tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeDir}
		if name != "./etc/" {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(name))
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(tw, name)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	w := &witness{}
	var asked []string
	o := flatten.Options{Watch: func(path string, mode uint32, size int64) flatten.Watcher {
		asked = append(asked, path)
		if path != "etc/wanted" || mode != 0o100755 || size != int64(len("./etc/wanted")) {
			return nil
		}
		return w
	}}
	if _, err := flatten.Flatten(t.Context(), []oneLayer{b.Bytes()}, hashing{}, o); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked, []string{"etc/wanted", "etc/other"}) {
		t.Errorf("asked about %q", asked)
	}
	if w.String() != "./etc/wanted" || !slices.Equal(w.done, []object.ContentID{object.ContentOf([]byte("./etc/wanted"))}) {
		t.Errorf("it saw %q and was told %v", w, w.done)
	}
	w.fail = errors.New("full")
	if _, err := flatten.Flatten(t.Context(), []oneLayer{b.Bytes()}, hashing{}, o); !errors.Is(err, w.fail) {
		t.Errorf("a watcher that fails: %v", err)
	}
}
