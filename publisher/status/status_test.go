package status_test

import (
	"encoding/json"
	"io"
	"maps"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/publisher/status"
	"github.com/rootstock-cf/rootstock/store/local"
)

func TestKeepsWhatOthersWrote(t *testing.T) {
	st, err := local.Create(t.TempDir() + "/s")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	at := time.Date(2026, 11, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for _, step := range []struct {
		do   func() error
		want map[string]string
	}{
		{func() error { return status.GC(t.Context(), st, at) }, map[string]string{"last_gc": "Mon Nov  2 02:04:05 UTC 2026"}},
		{
			func() error {
				return st.Put(t.Context(), ".cvmfs_status.json", []byte(`{"last_snapshot":"x","last_gc":"y"}`))
			}, map[string]string{"last_snapshot": "x", "last_gc": "y"},
		},
		{
			func() error { return status.Check(t.Context(), st, at, false) },
			map[string]string{"last_snapshot": "x", "last_gc": "y", "last_check": "Mon Nov  2 02:04:05 UTC 2026", "check_status": "failed"},
		},
		{
			func() error { return st.Put(t.Context(), ".cvmfs_status.json", []byte("null")) }, nil,
		},
		{
			func() error { return status.Check(t.Context(), st, at, true) },
			map[string]string{"last_check": "Mon Nov  2 02:04:05 UTC 2026", "check_status": "succeeded"},
		},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		r, err := st.Get(t.Context(), ".cvmfs_status.json")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		r.Close()
		var got map[string]string
		if err != nil || json.Unmarshal(b, &got) != nil || !maps.Equal(got, step.want) {
			t.Errorf("%s, %v; want %v", b, err, step.want)
		}
	}
}
