package versitygw_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/rootstock-cf/rootstock/internal/versitygw"
)

// The server runs, has its bucket, and lets nobody in without a signature.
func TestStart(t *testing.T) {
	s := versitygw.Start(t, "bucket")
	if _, err := os.Stat(filepath.Join(s.Dir, "bucket")); err != nil {
		t.Error(err)
	}
	resp, err := http.Get(s.URL + "/bucket/object")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("without a signature: %s", resp.Status)
	}
}
