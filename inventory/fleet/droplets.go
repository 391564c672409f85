package fleet

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/rootstock-cf/rootstock/inventory"
)

// Droplets asks what the droplets of all containers consist of: each of one cell
// that runs it, and of the next one if that one does not say. A droplet that
// nobody tells about has nil.
func (a *Asker) Droplets(ctx context.Context, cells []Cell) map[string]*inventory.Inventory {
	known := map[string]*inventory.Inventory{}
	at := map[string][]*Cell{}
	var order []string
	for i := range cells {
		for _, one := range cells[i].Containers {
			d := one.Droplet
			if d == "" {
				continue
			}
			if _, ok := known[d]; !ok {
				known[d] = nil
				order = append(order, d)
			}
			if n := len(at[d]); cells[i].Answers() && (n == 0 || at[d][n-1] != &cells[i]) {
				at[d] = append(at[d], &cells[i])
			}
		}
	}
	found := make([]*inventory.Inventory, len(order))
	each(len(order), func(i int) {
		for _, c := range at[order[i]] {
			if v, err := a.droplet(ctx, c, order[i]); err == nil {
				found[i] = v
				return
			}
		}
	})
	for i, d := range order {
		known[d] = found[i]
	}
	return known
}

func (a *Asker) droplet(ctx context.Context, c *Cell, digest string) (*inventory.Inventory, error) {
	u, err := url.Parse(c.Source)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawQuery = DropletRoute, url.Values{DigestKey: {digest}}.Encode()
	body, err := a.do(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // read before
	v, err := inventory.Decode(http.MaxBytesReader(nil, body, MaxAnswer))
	if err == nil && v.Tree != digest {
		err = fmt.Errorf("%w: it speaks of another droplet", inventory.ErrInvalid)
	}
	return &v, err
}
