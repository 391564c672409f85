package client_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// blacklist is a file that changes under way.
type blacklist struct{ text atomic.Pointer[string] }

func (b *blacklist) set(s string) { b.text.Store(&s) }

func (b *blacklist) read() (manifest.Blacklist, error) {
	if s := b.text.Load(); s != nil {
		return manifest.ParseBlacklist([]byte(*s))
	}
	return manifest.Blacklist{}, nil
}

func TestBlacklistedRevision(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	first := repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	repo.Tag("v1")
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("two")})
	var b blacklist
	o := clientOf(t, repo)
	o.Blacklist = b.read
	r := openRepository(t, o)
	tagged := clientOf(t, repo)
	tagged.Blacklist, tagged.Tag = b.read, "v1"
	atTag := openRepository(t, tagged)
	hashed := clientOf(t, repo)
	hashed.Blacklist, hashed.RootHash = b.read, first
	atHash := openRepository(t, hashed)

	b.set("<" + repo.Name + " 2\n")
	if _, err := r.Refresh(t.Context()); err != nil || r.Trusted() != nil {
		t.Errorf("revision 2 is none below 2: %v, %v", err, r.Trusted())
	}
	for name, old := range map[string]*client.Repository{"tag": atTag, "root hash": atHash} {
		if _, err := old.Refresh(t.Context()); !errors.Is(err, manifest.ErrBlacklisted) {
			t.Errorf("revision 1 by %s: %v", name, err)
		}
		if err := old.Trusted(); !errors.Is(err, manifest.ErrBlacklisted) || !old.Status().Withdrawn {
			t.Errorf("revision 1 by %s is trusted: %v", name, err)
		}
	}
	for name, o := range map[string]client.Options{"tag": tagged, "root hash": hashed} {
		if x, err := client.Open(t.Context(), o); !errors.Is(err, manifest.ErrBlacklisted) {
			t.Errorf("revision 1 opens by %s: %v", name, err)
			if err == nil {
				x.Close()
			}
		}
	}
	b.set("<" + repo.Name + " 3\n")
	if _, err := r.Refresh(t.Context()); !errors.Is(err, manifest.ErrBlacklisted) || !errors.Is(r.Trusted(), manifest.ErrBlacklisted) {
		t.Errorf("%v, %v", err, r.Trusted())
	}
	if got := readPath(t, r, "/f"); got != "two" {
		t.Errorf("whoever has it open reads %q", got)
	}
	// A new revision sets it right.
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("three")})
	if changed, err := r.Refresh(t.Context()); !changed || err != nil || r.Trusted() != nil {
		t.Errorf("%v, %v, %v", changed, err, r.Trusted())
	}
}

func TestBlacklistedCertificate(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	var b blacklist
	o := clientOf(t, repo)
	o.Blacklist = b.read
	r := openRepository(t, o)
	b.set(manifest.FormatFingerprint(object.SHA1.Sum(repo.CertificateDER())) + " # stolen\n")
	if _, err := r.Refresh(t.Context()); !errors.Is(err, manifest.ErrBlacklisted) || !errors.Is(r.Trusted(), manifest.ErrBlacklisted) {
		t.Errorf("%v, %v", err, r.Trusted())
	}
	// Neither the servers' nor the saved head will do.
	if _, err := client.Open(t.Context(), o); !errors.Is(err, manifest.ErrBlacklisted) {
		t.Errorf("opens: %v", err)
	}
	// A list that cannot be read is no empty list.
	b.set("nonsense")
	if _, err := r.Refresh(t.Context()); !errors.Is(err, manifest.ErrMalformed) || !strings.Contains(err.Error(), "blacklist") {
		t.Errorf("unreadable: %v", err)
	}
	if err := r.Trusted(); !errors.Is(err, manifest.ErrBlacklisted) {
		t.Errorf("an unreadable list clears: %v", err)
	}
	b.set("")
	if _, err := r.Refresh(t.Context()); err != nil || r.Trusted() != nil {
		t.Errorf("taken back: %v, %v", err, r.Trusted())
	}
}

// The whitelist is watched also where nothing else changes, and renewed.
func TestExpiryWhileOpen(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{Expires: time.Now().Add(50 * time.Hour)})
	root := repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	repo.Tag("v1")
	c := newClock()
	open := func(change func(*client.Options)) *client.Repository {
		o := clientOf(t, repo)
		o.Clock = c.now
		change(&o)
		return openRepository(t, o)
	}
	live := open(func(*client.Options) {})
	tagged := open(func(o *client.Options) { o.Tag = "v1" })
	hashed := open(func(o *client.Options) { o.RootHash = root })
	requests := repo.Requests("")
	if changed, err := tagged.Refresh(t.Context()); changed || err != nil || repo.Requests("") != requests {
		t.Errorf("a tag with a fresh whitelist: %v, %v, %d requests", changed, err, repo.Requests("")-requests)
	}
	c.add(72 * time.Hour)
	for name, r := range map[string]*client.Repository{"live": live, "tag": tagged} {
		if err := r.Trusted(); !errors.Is(err, manifest.ErrExpired) {
			t.Errorf("%s is trusted though nobody refreshed: %v", name, err)
		}
		if _, err := r.Refresh(t.Context()); !errors.Is(err, manifest.ErrExpired) {
			t.Errorf("%s: %v", name, err)
		}
		if got := readPath(t, r, "/f"); got != "one" {
			t.Errorf("%s: whoever has it open reads %q", name, got)
		}
	}
	if err := hashed.Trusted(); err != nil {
		t.Errorf("a root hash needs no whitelist: %v", err)
	}
	repo.Whitelist(time.Now().AddDate(1, 0, 0))
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("two")})
	for name, r := range map[string]*client.Repository{"live": live, "tag": tagged} {
		if changed, err := r.Refresh(t.Context()); err != nil || r.Trusted() != nil || changed != (name == "live") {
			t.Errorf("%s, renewed: %v, %v, %v", name, changed, err, r.Trusted())
		}
	}
	if got := readPath(t, tagged, "/f"); got != "one" {
		t.Errorf("the tag moved: %q", got)
	}
}

func TestOwner(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	f := testrepo.Text("x")
	f.UID, f.GID = 1000, 1001
	repo.Publish(testrepo.Tree{"/f": f})
	o := clientOf(t, repo)
	r := openRepository(t, o)
	if a := mustAttr(t, r, find(t, r, "/f")); a.UID != 1000 || a.GID != 1001 {
		t.Errorf("%d:%d", a.UID, a.GID)
	}
	o.Owner = &client.Owner{UID: 7, GID: 8}
	claimed := openRepository(t, o)
	if a := mustAttr(t, claimed, find(t, claimed, "/f")); a.UID != 7 || a.GID != 8 {
		t.Errorf("claimed: %d:%d", a.UID, a.GID)
	}
}
