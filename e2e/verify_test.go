package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// An independent reader of the format, which knows nothing of ours, accepts what
// we write, for each hash algorithm and for both compressions it can read.
func TestIndependentVerifierAccepts(t *testing.T) {
	tool := needTool(t, "verify_repo.py")
	for _, flags := range [][]string{
		{"--compression", "zlib", "--hash", "sha1"},
		{"--compression", "zlib", "--hash", "shake128"},
		{"--compression", "zlib", "--hash", "rmd160"},
		{"--compression", "none", "--hash", "shake128"},
	} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			s := newSite(t, flags...)
			tar := filepath.Join(s.dir, "tree.tar")
			run(t, s.dir, "python3", abs(t, "testdata/tree.py"), tar)
			s.publish(t, "rootfs", "one", "1", tar)
			s.publish(t, "rootfs", "one", "2", tar)
			s.publish(t, "rootfs", "two", "1", tar)
			cmd := exec.Command("python3", tool, s.store)
			cmd.Env = append(os.Environ(), "CVMFS_PUBKEYS="+s.keys+"/*.pub")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), "OK ") {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, fact := range []string{"'wl_sig_ok': 1", "'reflogY': 1", "'chunksok': ", "'hardlinked': 9", "'xattrs': "} {
				if !strings.Contains(string(out), fact) {
					t.Errorf("the verifier does not say %s: %s", fact, out)
				}
			}
			for _, flaw := range []string{"'zdiff'", "'missing'", "nomarker"} {
				if strings.Contains(string(out), flaw) {
					t.Errorf("the verifier says %s: %s", flaw, out)
				}
			}
		})
	}
}
