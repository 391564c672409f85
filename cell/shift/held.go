package shift

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/rootstock-cf/rootstock/cell/holder"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// HolderKeys is what the holder's keys of a repository's mounts begin with; the
// mapping follows, for the next process.
func HolderKeys(repository string) string { return "ids/" + repository + "/" }

func (s *Mounts) options(dir string) fusefs.Options {
	return fusefs.Options{Mountpoint: dir, FSName: s.o.Name, NoResend: s.o.NoResend, Log: s.o.Log}
}

// connect mounts at dir and makes at's connection.
func (s *Mounts) connect(ctx context.Context, at *mount, m overlay.Mapping, dir string) (err error) {
	if s.o.Holder == nil {
		at.conn, err = fusefs.Mount(ctx, at.fs, s.options(dir))
		return err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	at.held = HolderKeys(s.o.Name) + string(text)
	h, err := s.o.Holder.Open(ctx, holder.Mount{Key: at.held, Tag: s.o.Tag, Path: dir, FSName: s.o.Name})
	if err != nil {
		return err
	}
	defer h.Close()
	at.conn, err = h.Adopt(at.fs, s.options(dir))
	return err
}

// adopt takes over what the holder has, and has it drop what cannot be gone on
// with.
func (s *Mounts) adopt(ctx context.Context, roots []view.Node) error {
	if s.o.Holder == nil {
		return nil
	}
	for _, h := range s.o.Holder.Mounts() {
		text, mine := strings.CutPrefix(h.Key, HolderKeys(s.o.Name))
		if !mine {
			continue
		}
		var m overlay.Mapping
		err := json.Unmarshal([]byte(text), &m)
		if err == nil {
			err = m.Validate()
		}
		switch {
		case err != nil:
		case h.Tag != s.o.Tag:
			err = fmt.Errorf("it shows what the repository's mount showed before")
		case !h.Mounted:
			err = fmt.Errorf("somebody unmounted it")
		case h.Path != filepath.Join(s.o.Dir, key(m)):
			err = fmt.Errorf("mounts with translated ids are in %s now", s.o.Dir)
		}
		if err != nil {
			s.o.Log.Warn("a mount of an earlier process is not gone on with", "repository", s.o.Name, "mountpoint", h.Path, "reason", err)
			if err := s.o.Holder.Drop(ctx, h.Key); err != nil {
				return err
			}
			continue
		}
		if err := s.take(ctx, h.Key, m, roots); err != nil {
			return err
		}
	}
	return nil
}

func (s *Mounts) take(ctx context.Context, held string, m overlay.Mapping, roots []view.Node) error {
	h, err := s.o.Holder.Take(ctx, held)
	if err != nil {
		return err
	}
	defer h.Close()
	at := &mount{held: held, fs: tree.New(NewView(s.o.View, m), tree.Options{Roots: roots, OpenContents: s.o.Contents})}
	if at.conn, err = h.Adopt(at.fs, s.options(h.Path)); err != nil {
		return err
	}
	s.start(key(m), at)
	return nil
}
