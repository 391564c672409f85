package client

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/client/cache"
)

// version is this program's, as the Go toolchain stamped it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// pubkeys prints public keys as their files hold them.
func pubkeys(keys []*rsa.PublicKey) string {
	var b strings.Builder
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			continue // none that was loaded
		}
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	return b.String()
}

// hitrate is how many of a hundred contents that were asked for were there.
func hitrate(s cache.Stats) string {
	if s.Hits+s.Misses == 0 {
		return "n/a"
	}
	return strconv.FormatFloat(100*float64(s.Hits)/float64(s.Hits+s.Misses), 'f', 3, 64)
}

// maxFiles is how many files this process may have open, openFiles how many it
// has.
func maxFiles() (string, bool) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return "", false
	}
	return strconv.FormatUint(l.Cur, 10), true
}

func openFiles() (string, bool) {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return "", false
	}
	return strconv.Itoa(len(list) - 1), true // without the one that reads the list
}
