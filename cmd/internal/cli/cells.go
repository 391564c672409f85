package cli

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
)

// cellFlags say how cells are asked over HTTPS. Where a command has more of
// certificates, prefix goes before the names.
type cellFlags struct {
	prefix        string
	cert, key, ca string
	timeout       time.Duration
}

func (f *cellFlags) add(p *pflag.FlagSet, prefix string) {
	f.prefix = prefix
	p.StringVar(&f.cert, prefix+"cert", "", "certificate, PEM, to show to cells")
	p.StringVar(&f.key, prefix+"key", "", "its key, PEM")
	p.StringVar(&f.ca, prefix+"ca", "", "authority, PEM, of the cells' certificates (default the system's)")
	p.DurationVar(&f.timeout, prefix+"timeout", 10*time.Second, "how long a cell may take to answer")
}

// asker asks cells, with mutual TLS if so configured.
func (f *cellFlags) asker() (*fleet.Asker, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.cert != "" || f.key != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--%[1]scert and --%[1]skey: %[2]w", f.prefix, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--%sca: %w", f.prefix, err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--%sca %s: no certificate in it", f.prefix, f.ca)
		}
	}
	return &fleet.Asker{Client: &http.Client{
		Timeout: f.timeout, Transport: &http.Transport{TLSClientConfig: c, Proxy: http.ProxyFromEnvironment},
	}}, nil
}
