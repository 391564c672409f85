package manifest

import (
	"time"

	"github.com/rootstock-cf/rootstock/object"
)

// Renewal says what a new whitelist is to hold.
type Renewal struct {
	Name string
	// Listed are the fingerprints of a whitelist that is to be prolonged,
	// after its signature was checked.
	Listed       []object.Hash
	Certificates []Certificate
	Now          time.Time
	Validity     time.Duration
	// Algorithm of the fingerprints that are new. Clients take any.
	Algorithm object.Algorithm
}

// Whitelist returns the whitelist, to be signed: those listed so far, then
// those that are new.
func (r Renewal) Whitelist() Whitelist {
	w := Whitelist{Name: r.Name, Created: r.Now, Expires: r.Now.Add(r.Validity)}
	w.Fingerprints = append(w.Fingerprints, r.Listed...)
	for _, c := range r.Certificates {
		if !w.Lists(c) {
			w.Fingerprints = append(w.Fingerprints, c.Fingerprint(r.Algorithm))
		}
	}
	return w
}
