package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rootstock-cf/rootstock/cell/holder"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/objects"
)

// HolderKeys is what the holder's keys of the tier's mounts begin with.
const HolderKeys = "objects/"

// numbers is the file of a connection's node ids.
func (s *store) numbers(tag string) string {
	name := filepath.Join(s.o.Dir, "objects.numbers")
	if tag != "" {
		name += "." + tag
	}
	return name
}

func (s *store) options() fusefs.Options {
	return fusefs.Options{
		Mountpoint: s.dir, FSName: "rootstock-objects", NoXAttrs: true, NoResend: s.o.NoResend, Log: s.o.Log,
	}
}

// connect mounts and makes c's connection.
func (s *store) connect(ctx context.Context, c *connection) (err error) {
	o := s.options()
	if s.o.Holder == nil {
		c.conn, err = fusefs.Mount(ctx, c.fs, o)
		return err
	}
	c.key = HolderKeys + c.tag
	h, err := s.o.Holder.Open(ctx, holder.Mount{Key: c.key, Tag: c.tag, Path: s.dir, FSName: o.FSName})
	if err != nil {
		return err
	}
	defer h.Close()
	c.conn, err = h.Adopt(c.fs, o)
	return err
}

// adopt takes over what the holder has of an earlier process: the objects mount,
// and connections that only overlays still use. It reports whether the mount is
// among them.
func (s *store) adopt(ctx context.Context) (mounted bool, err error) {
	if s.o.Holder == nil {
		return false, nil
	}
	var mine *connection
	for _, m := range s.o.Holder.Mounts() {
		if !strings.HasPrefix(m.Key, HolderKeys) {
			continue
		}
		c, is, err := s.adoptOne(ctx, m)
		if err != nil {
			return false, fmt.Errorf("objects mount: %w", err)
		}
		if is {
			mine = c
		} else {
			s.conns = append(s.conns, c)
		}
	}
	if mine == nil {
		return false, nil
	}
	s.conns = append(s.conns, mine) // the last one is the mount's
	return true, nil
}

func (s *store) adoptOne(ctx context.Context, m holder.Mount) (*connection, bool, error) {
	h, err := s.o.Holder.Take(ctx, m.Key)
	if err != nil {
		return nil, false, err
	}
	defer h.Close()
	c := &connection{key: h.Key, tag: h.Tag, done: make(chan struct{})}
	if c.fs, err = objects.New(s.source, objects.Options{Numbers: s.numbers(h.Tag), Adopt: true}); err != nil {
		return nil, false, err
	}
	if c.conn, err = h.Adopt(c.fs, s.options()); err != nil {
		return nil, false, err
	}
	return c, h.Mounted && h.Path == s.dir, nil
}

// drop has the holder forget a connection that has ended.
func (s *store) drop(ctx context.Context, c *connection) {
	if s.o.Holder == nil {
		return
	}
	if err := s.o.Holder.Drop(ctx, c.key); err != nil {
		s.o.Log.Warn("the holder keeps an objects mount that has ended", "error", err)
	}
	os.Remove(s.numbers(c.tag))
}

// held reports whether the holder has mounts of the tier.
func held(h *holder.Client) bool {
	if h == nil {
		return false
	}
	for _, m := range h.Mounts() {
		if strings.HasPrefix(m.Key, HolderKeys) {
			return true
		}
	}
	return false
}
