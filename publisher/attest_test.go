package publisher_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/manifest/attest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

func signer(t *testing.T) *attest.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := attest.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// said is what a signer says of a reference in the newest revision.
func (s *site) said(name string, by *attest.Signer) (*attest.Statement, error) {
	s.t.Helper()
	r := s.reader()
	t, err := r.Find(s.t.Context(), ref(s.t, name))
	s.must(err)
	return r.Statement(s.t.Context(), t, by.Key)
}

// What is derived without a repository is what was published, whatever it is
// and however it was published.
func TestDeriveIsWhatWasPublished(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "motd"), []byte("welcome"), 0o600); err != nil {
		t.Fatal(err)
	}
	large := "big=" + strings.Repeat("0123456789", 200_000)
	for name, open := range map[string]func() *source.Source{
		"rootfs/plain@1":                  func() *source.Source { return rootfs(t, "etc/.wh.x=a name", "empty=", large) },
		"images/r.example.org/team/app@1": func() *source.Source { return image(t, "A=1", "bin/sh=#!", "empty=", large) },
		"buildpacks/ruby@1":               func() *source.Source { return buildpackZip(t, false, "bin/detect", "#!", "big", large) },
		"dirs/site@1": func() *source.Source {
			src, err := source.OpenDir(t.Context(), dir, source.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return src
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, by := newSite(t), signer(t)
			s.remembering()
			s.o.Attest, s.o.Workers = by, 3
			r := s.mustPublish(name, open())
			src := open()
			defer src.Close()
			d, err := publisher.Derive(t.Context(), src, nil)
			if err != nil || d.Tree.String() != r.Tree || int64(d.Entries) != r.Entries || d.Bytes != r.Bytes {
				t.Errorf("derived %+v, %v; published %+v", d, err, r)
			}
			st, err := s.said(name, by)
			if err != nil {
				t.Fatal(err)
			}
			if st.Source.Digest != src.Digest || st.Source.Digest == "" || st.Source.Kind != src.Kind || len(st.Source.DiffIDs) != len(src.Layers) || st.Source.DiffIDs[0] == "" {
				t.Errorf("source %+v, digest %s", st.Source, src.Digest)
			}
			if strings.Contains(st.Source.Name, "/") || st.Source.Name == "" {
				t.Errorf("it names the source %q", st.Source.Name)
			}
		})
	}
}

// Signing is for what was read: another name of a tree, or a tree that another
// publisher left unsigned, is read for it, once.
func TestAttestWhatIsThere(t *testing.T) {
	s, by := newSite(t), signer(t)
	s.remembering()
	const app = "images/r.example.org/team/app"
	first := s.mustPublish(app+"@1", image(t, "A=1", "bin/sh=#!"))
	if _, err := s.said(app+"@1", by); !errors.Is(err, publisher.ErrUnsigned) || first.Attested != "" {
		t.Errorf("nobody was to sign: %v, %q", err, first.Attested)
	}
	s.o.Attest = by
	r := s.mustPublish(app+"@1", image(t, "A=1", "bin/sh=#!"))
	if !r.Known || r.Revision != first.Revision+1 || r.Attested != by.ID || r.Tree != first.Tree {
		t.Errorf("signed later: %+v", r)
	}
	if r = s.mustPublish(app+"@1", image(t, "A=1", "bin/sh=#!")); !r.Unchanged || r.Attested != "" {
		t.Errorf("signed again: %+v", r)
	}
	if r = s.mustPublish(app+"@latest", image(t, "A=1", "bin/sh=#!")); r.Attested != by.ID || r.Known {
		t.Errorf("under another tag: %+v", r)
	}
	for _, tag := range []string{"@1", "@latest"} {
		if st, err := s.said(app+tag, by); err != nil || st.Name != app+tag {
			t.Errorf("%s: %+v, %v", tag, st, err)
		}
	}
	// A source whose layers are not those its configuration names is refused
	// before anything is signed.
	other := signer(t)
	s.o.Attest = other
	src := image(t, "A=1", "bin/sh=#!")
	src.Layers[0] = rootfs(t, "bin/sh=changed").Layers[0]
	if _, err := s.publish(app+"@1", src); !errors.Is(err, publisher.ErrExists) {
		t.Errorf("what is not the tree's was signed: %v", err)
	}
	if _, err := s.said(app+"@1", other); !errors.Is(err, publisher.ErrUnsigned) {
		t.Errorf("signed: %v", err)
	}
}

// What lies in a signer's file counts only as far as the signer signed it.
func TestForgedStatements(t *testing.T) {
	s, by, mallory := newSite(t), signer(t), signer(t)
	s.o.Attest = by
	r := s.mustPublish("rootfs/jammy@1", rootfs(t, "a=1"))
	old := s.mustPublish("rootfs/jammy@0", rootfs(t, "a=old"))
	st, err := s.said("rootfs/jammy@1", by)
	s.must(err)
	sign := func(who *attest.Signer, st attest.Statement) []byte {
		line, err := who.Sign(st)
		s.must(err)
		return append(line, '\n')
	}
	oldTree, err := object.ParseContentID(old.Tree)
	s.must(err)
	about := func(name string, tree object.ContentID) attest.Statement {
		return attest.Statement{Name: name, Tree: tree, Source: st.Source, Derived: st.Derived}
	}
	good := sign(by, about("rootfs/jammy@1", st.Tree))
	for name, tc := range map[string]struct {
		text []byte
		want error
	}{
		"good":               {good, nil},
		"behind junk":        {append([]byte("\x00\n{}\n"), good...), nil},
		"another signer's":   {sign(mallory, about("rootfs/jammy@1", st.Tree)), attest.ErrSignature},
		"of another tree":    {sign(by, about("rootfs/jammy@1", oldTree)), attest.ErrOther},
		"of another version": {sign(by, about("rootfs/jammy@0", st.Tree)), attest.ErrOther},
		"tampered":           {bytes.Replace(good, []byte(`"payload":"e`), []byte(`"payload":"f`), 1), attest.ErrSignature},
		"empty":              {nil, attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			s.must(publisher.Forge(t.Context(), s.o, r.Tree, by.ID, tc.text))
			if _, err := s.said("rootfs/jammy@1", by); !errors.Is(err, tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	s.must(publisher.Forge(t.Context(), s.o, r.Tree, by.ID, make([]byte, attest.MaxBundle+1)))
	if _, err := s.said("rootfs/jammy@1", by); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a file without end: %v", err)
	}
	// What cannot be read is replaced by what is said now.
	s.must(publisher.Forge(t.Context(), s.o, r.Tree, by.ID, []byte("junk")))
	if r := s.mustPublish("rootfs/jammy@1", rootfs(t, "a=1")); r.Attested != by.ID {
		t.Errorf("not said again: %+v", r)
	}
	if _, err := s.said("rootfs/jammy@1", by); err != nil {
		t.Error(err)
	}
}
