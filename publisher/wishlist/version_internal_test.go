package wishlist

import (
	"slices"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	want := []string{"", "1-rc1", "1", "1.2-rc1", "1.2-rc10", "1.2", "1.2.1", "1.9", "1.10", "2", "010.1", "latest"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareVersions)
	if !slices.Equal(got, want) {
		t.Errorf("sorted %q, want %q", got, want)
	}
	for _, a := range want {
		for _, b := range want {
			if compareVersions(a, b) != -compareVersions(b, a) {
				t.Errorf("%q and %q", a, b)
			}
		}
	}
}
