package manifest

import "fmt"

// OpenSigned returns the manifest in raw if the key of c signed it. It is what a
// publisher asks of its own repository; a client asks [Trust.Verify].
func OpenSigned(raw []byte, c Certificate) (Manifest, error) {
	e, err := Open(raw)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if err := e.verifyDigest(c.Key); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return Parse(e.Body)
}
