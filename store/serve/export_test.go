package serve

import (
	"crypto/tls"
	"time"
)

// ParseQuick tells what is understood of p: whether it can be answered quickly,
// and whether it is a whole request that has no body.
func ParseQuick(p []byte) (target string, quick, whole bool) {
	r, quick := parseQuick(p)
	return string(r.target), quick, isHead(p)
}

// TLSChecked is [TLS] with another time between two looks at the files.
func TLSChecked(certFile, keyFile string, every time.Duration) (*tls.Config, error) {
	return newTLS(certFile, keyFile, "", every)
}
