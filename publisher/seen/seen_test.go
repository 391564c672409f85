package seen_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/publisher/seen"
)

func files(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestKeptAndLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when needed")
	d := seen.Open(dir, seen.Options{})
	if d.Recall("sha256:a") != nil || d.Blob("sha256:a") != nil {
		t.Fatal("an empty memory remembers")
	}
	d.Remember("sha256:a", []byte("layer"))
	d.KeepBlob("sha256:a", []byte("blob"))
	d.Remember("../../x", nil)
	other := seen.Open(dir, seen.Options{}) // another process
	if string(other.Recall("sha256:a")) != "layer" || string(other.Blob("sha256:a")) != "blob" {
		t.Errorf("got %q, %q", other.Recall("sha256:a"), other.Blob("sha256:a"))
	}
	if b := other.Recall("../../x"); b == nil || len(b) != 0 {
		t.Errorf("nothing, remembered, came back as %v", b)
	}
	if n := len(files(t, dir)); n != 3 {
		t.Errorf("%d files", n)
	}
	if seen.Open(dir, seen.Options{Forget: true}).Recall("sha256:a") != nil {
		t.Error("a memory that is to forget remembers")
	}
	var none *seen.Dir
	none.Remember("x", nil)
	if none.Recall("x") != nil {
		t.Error("no memory remembers")
	}
	seen.Open(filepath.Join(os.DevNull, "x"), seen.Options{}).Remember("x", nil) // cannot be made: no harm
}

// Every damage to a file is noticed, also that of one put in another's place.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	d := seen.Open(dir, seen.Options{})
	d.Remember("one", []byte("what one says"))
	one := files(t, dir)[0]
	whole, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		bad := bytes.Clone(whole)
		bad[n] ^= 1
		for what, b := range map[string][]byte{"flipped": bad, "cut": whole[:n]} {
			if err := os.WriteFile(one, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if got := d.Recall("one"); got != nil {
				t.Fatalf("%s at %d: %q", what, n, got)
			}
		}
	}
	d.Remember("two", []byte("what two says"))
	two := files(t, dir)[0]
	if err := os.Rename(two, one); err != nil {
		t.Fatal(err)
	}
	if got := d.Recall("one"); got != nil {
		t.Errorf("one says %q", got)
	}
}

func TestLimit(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	o := seen.Options{Limit: 4096, Now: func() time.Time { now = now.Add(time.Minute); return now }}
	d := seen.Open(dir, o)
	noise := make([]byte, 1000)
	for i := range 20 {
		for k := range noise {
			noise[k] = byte(i*31+k*k*7) ^ byte(k>>3*i)
		}
		name := fmt.Sprint(i)
		d.Remember(name, noise)
		d.Recall("0") // asked for all the time
	}
	var total int64
	for _, f := range files(t, dir) {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 4096 || d.Recall("0") == nil || d.Recall("19") == nil || d.Recall("5") != nil {
		t.Errorf("%d bytes; 0: %t, 5: %t, 19: %t", total, d.Recall("0") != nil, d.Recall("5") != nil, d.Recall("19") != nil)
	}
}

// A file's digests are known only while everything the file system says of it
// is as it was, and only if it was old enough when it was read.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.tar")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	state := func() seen.State {
		i, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		s, ok := seen.StateOf(path, i)
		if !ok {
			t.Fatal("no state")
		}
		return s
	}
	found := seen.Digests{Digest: "sha256:1", DiffID: "sha256:2"}
	later := time.Now().Add(time.Minute)
	for name, tc := range map[string]struct {
		begin  time.Time
		change func()
		known  bool
	}{
		"unchanged":   {later, func() {}, true},
		"read young":  {time.Now(), func() {}, false},
		"future file": {later.Add(-time.Hour), func() {}, false},
		"longer":      {later, func() { write("other") }, false},
		"same size":   {later, func() { write("two") }, false},
		"time set back": {later, func() {
			i, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			write("two")
			if err := os.Chtimes(path, i.ModTime(), i.ModTime()); err != nil {
				t.Fatal(err)
			}
		}, false},
		"another file": {later, func() {
			if err := os.Rename(path, path+".old"); err != nil {
				t.Fatal(err)
			}
			write("one")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := seen.Open(t.TempDir(), seen.Options{})
			write("one")
			d.KeepFile(state(), tc.begin, found)
			time.Sleep(20 * time.Millisecond) // more than a tick of the file system's clock
			tc.change()
			if got, ok := d.File(state()); ok != tc.known || ok && got != found {
				t.Errorf("%+v, %t", got, ok)
			}
		})
	}
	if s := state(); !strings.HasPrefix(s.Path, "/") {
		t.Errorf("path %q", s.Path)
	}
}
