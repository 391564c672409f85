package seen

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// racy is how much older than a reading's begin a file's times must be. A file
// changed within the same tick of its file system's clock as before bears the
// times it had; two seconds is the coarsest tick there is (FAT's). It is the
// rule by which git trusts its index.
const racy = 3 * time.Second

// State is what a file system says of a file, all of which stays only if the
// file does: writing moves the modification and change times, setting the
// former back moves the latter, and another file has another inode.
type State struct {
	Path   string `json:"path"` // absolute
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	MTime  int64  `json:"mtime"` // nanoseconds
	CTime  int64  `json:"ctime"` // nanoseconds
}

// StateOf reads the state of a file from what Stat said of it.
func StateOf(path string, i os.FileInfo) (State, bool) {
	st, ok := i.Sys().(*syscall.Stat_t)
	abs, err := filepath.Abs(path)
	if !ok || err != nil {
		return State{}, false
	}
	return State{
		Path: abs, Device: st.Dev, Inode: st.Ino, Size: st.Size, //nolint:unconvert // widths differ by platform
		MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano(),
	}, true
}

// Digests are what the bytes of a file hash to, each sha256:<hex>.
type Digests struct {
	Digest string `json:"digest"`
	DiffID string `json:"diff_id"` // of what it decompresses to
}

func (s State) key() string {
	return fmt.Sprintf("%d\x00%d\x00%s", s.Device, s.Inode, s.Path)
}

// fileRecord is what is kept of a file.
type fileRecord struct {
	State   State   `json:"state"`
	Digests Digests `json:"digests"`
}

// File returns what a file in this state was found to hold.
func (d *Dir) File(s State) (Digests, bool) {
	var r fileRecord
	b := d.load("file", s.key())
	if b == nil || json.Unmarshal(b, &r) != nil || r.State != s {
		return Digests{}, false
	}
	return r.Digests, true
}

// KeepFile keeps what a file held that was in state s from the begin of its
// reading to the end. It declines a file so young that it may have been
// changed since without a trace.
func (d *Dir) KeepFile(s State, begin time.Time, found Digests) {
	limit := begin.Add(-racy).UnixNano()
	if d == nil || s.MTime > limit || s.CTime > limit {
		return
	}
	if b, err := json.Marshal(fileRecord{s, found}); err == nil {
		d.keep("file", s.key(), b)
	}
}

// Begin is the time by the clock that KeepFile's begin is to be taken from.
func (d *Dir) Begin() time.Time {
	if d == nil {
		return time.Time{}
	}
	return d.o.Now()
}
