package rootfsprovider_test

import (
	"fmt"
	"testing"

	"github.com/rootstock-cf/rootstock/rootfsprovider"
)

// Without a process of its own, as against cmd/rootstock-plugin's benchmark.
func BenchmarkCreateDelete(b *testing.B) {
	c := newCell(b)
	p := c.provider()
	for i := 0; b.Loop(); i++ {
		handle := fmt.Sprintf("h%d", i)
		if _, err := p.Create(b.Context(), rootfsprovider.Request{URI: uri, Handle: handle}); err != nil {
			b.Fatal(err)
		}
		if err := p.Delete(b.Context(), handle); err != nil {
			b.Fatal(err)
		}
	}
}
