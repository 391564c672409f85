package cell

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/rootstock-cf/rootstock/cell/startup"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/object"
)

// ProfilesRoute is where the fleet's listener shows what was recorded of
// containers' starts: one JSON document a line.
const ProfilesRoute = "/profiles"

func (c *Cell) openProfiles() (*startup.Recorder, error) {
	return startup.New(startup.Options{
		Dir: filepath.Join(c.cache.Dir(), "state", "profiles"), Window: c.o.ProfileWindow, Process: c.apps.process, Log: c.o.Log,
		// Nothing is recorded before a tree is in use, and so before there
		// is a tier.
		Naming: func(id object.ContentID) []imagemeta.TreeID { return c.images.Naming(id) },
	})
}

// noteOpened is told of each content that the kernel asked for. That of a
// compiled directory is asked for by another name than its digest.
func (c *Cell) noteOpened(id object.ContentID) {
	sum, ok := c.cache.Digest(cache.Name(id))
	if !ok { // in pieces
		sum = id
	}
	c.opened.Note(sum)
	c.profiles.Opened(id)
}

// Recorded is the result of CallProfiles.
type Recorded struct {
	Trees int `json:"trees"`
}

// opensPerLine keeps a line of progress below control.MaxRequest, over which it
// is dropped; an open has some 90 bytes.
const opensPerLine = 500

// recorded reports documents of a part of each profile as progress: together
// they are more than an answer can hold, and who reads them merges them again.
func (c *Cell) recorded(ctx context.Context, _ struct{}, progress func(any)) (Recorded, error) {
	var n Recorded
	err := c.profiles.Documents(func(d profile.Document) error {
		n.Trees++
		for _, p := range d.Profiles {
			for part := range slices.Chunk(p.Opens, opensPerLine) {
				progress(profile.Document{Tree: d.Tree, Profiles: []profile.Profile{{Process: p.Process, Opens: part}}})
			}
		}
		return ctx.Err()
	})
	return n, err
}

func (c *Cell) serveProfiles(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	to := json.NewEncoder(w)
	err := c.profiles.Documents(func(d profile.Document) error {
		if err := r.Context().Err(); err != nil {
			return err
		}
		return to.Encode(d)
	})
	if err != nil {
		// Part of it may be on its way: the client must see that it is not all.
		c.o.Log.Debug("profiles not sent", "error", err)
		panic(http.ErrAbortHandler)
	}
}
