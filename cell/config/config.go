// Package config reads the configuration file of rootstock-cell run: YAML, or
// JSON, which is the same. What flows out is cell.Options.
//
// A file is an operator's, so mistakes are what it is checked for: a setting
// that does not exist is an error that names it, and all that is wrong is said
// at once.
package config

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/garden"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/reference/rollout"
	"github.com/rootstock-cf/rootstock/store/serve"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// ErrInvalid reports a file that does not describe a cell.
var ErrInvalid = errors.New("invalid configuration")

// file is the document. Times are like "5s", sizes like "20GB" or bytes.
type file struct {
	Cache        string            `yaml:"cache"`
	Quota        size              `yaml:"quota"`
	Socket       string            `yaml:"socket"`
	Metrics      string            `yaml:"metrics"`
	Holder       string            `yaml:"holder"`
	Tier         string            `yaml:"tier"`
	IDMapping    string            `yaml:"id_mapping"`
	Run          string            `yaml:"run"`
	Scrub        size              `yaml:"scrub"`
	Fill         size              `yaml:"fill"`
	Grace        duration          `yaml:"grace"`
	Refresh      duration          `yaml:"refresh"`
	Timeout      duration          `yaml:"timeout"`
	Proxies      string            `yaml:"proxies"`
	Hedge        bool              `yaml:"hedge"`
	Requests     int               `yaml:"requests"`
	Bandwidth    size              `yaml:"bandwidth"`
	CA           string            `yaml:"ca"`
	Certificate  string            `yaml:"client_certificate"`
	Key          string            `yaml:"client_key"`
	Blacklist    string            `yaml:"blacklist"`
	Name         string            `yaml:"name"`
	ID           string            `yaml:"id"`
	Labels       map[string]string `yaml:"labels"`
	Garden       string            `yaml:"garden"`
	Fleet        *fleet            `yaml:"fleet"`
	Droplets     *droplets         `yaml:"droplets"`
	Repositories []repository      `yaml:"repositories"`
}

// fleet is where others may ask what the cell runs.
type fleet struct {
	Listen string `yaml:"listen"`
	Cert   string `yaml:"cert"`
	Key    string `yaml:"key"`
	CA     string `yaml:"ca"`
}

// droplets say how write layers are read.
type droplets struct {
	Containers string   `yaml:"containers"`
	Rate       size     `yaml:"rate"`
	After      duration `yaml:"after"`
}

type repository struct {
	Name       string   `yaml:"name"`
	Servers    []string `yaml:"servers"`
	Proxies    string   `yaml:"proxies"`
	Keys       []string `yaml:"keys"`
	Mountpoint string   `yaml:"mountpoint"`
	Tag        string   `yaml:"tag"`
	RootHash   string   `yaml:"root_hash"`
	Refresh    duration `yaml:"refresh"`
}

// Off switches metrics off.
const Off = "off"

// Load reads and checks a file. Paths in it are relative to its directory. All
// mistakes are in the error, which wraps [ErrInvalid], one a line.
func Load(path string) (cell.Options, error) {
	raw, err := readFile(path)
	if err != nil {
		return cell.Options{}, err
	}
	// Defaults are what the document does not override.
	f := file{Socket: control.DefaultSocket, Metrics: cell.DefaultMetrics, Scrub: 4 << 20, Fill: 8 << 20}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		return cell.Options{}, fmt.Errorf("%w %s: %s", ErrInvalid, path, reworded(err))
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return cell.Options{}, fmt.Errorf("%w %s: more than one document", ErrInvalid, path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return cell.Options{}, fmt.Errorf("configuration: %w", err)
	}
	c := checker{dir: filepath.Dir(abs)}
	o := c.options(&f)
	if len(c.wrong) > 0 {
		return cell.Options{}, fmt.Errorf("%w %s: %s", ErrInvalid, path, strings.Join(c.wrong, "\n\t"))
	}
	return o, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 -- the operator's
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("%w %s: more than %d bytes", ErrInvalid, path, maxFile)
	}
	return raw, nil
}

var unknownField = regexp.MustCompile(`field (\S+) not found in type config\.\w+`)

// reworded says what an operator can see in the file instead of our types.
func reworded(err error) string {
	if errors.Is(err, io.EOF) {
		return "it is empty"
	}
	text := unknownField.ReplaceAllString(err.Error(), `there is no setting "$1"`)
	var list *yaml.TypeError
	if errors.As(err, &list) {
		text = unknownField.ReplaceAllString(strings.Join(list.Errors, "\n\t"), `there is no setting "$1"`)
	}
	return text
}

// checker collects all that is wrong.
type checker struct {
	dir   string
	wrong []string
}

func (c *checker) bad(where, format string, args ...any) {
	c.wrong = append(c.wrong, where+": "+fmt.Sprintf(format, args...))
}

func (c *checker) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

func (c *checker) options(f *file) cell.Options {
	o := cell.Options{
		CacheDir: c.path(f.Cache), Quota: int64(f.Quota), Socket: c.path(f.Socket), Metrics: f.Metrics,
		Holder: c.path(f.Holder), Tier: f.Tier, IDMapping: f.IDMapping, RunDir: c.path(f.Run), ScrubRate: int64(f.Scrub), FillRate: int64(f.Fill), Grace: time.Duration(f.Grace),
	}
	if f.Cache == "" {
		c.bad("cache", "missing; name a directory for what is fetched")
	}
	if o.Metrics == Off {
		o.Metrics = ""
	} else if err := cell.CheckLoopback(o.Metrics); err != nil {
		c.bad("metrics", "%v; or %q", err, Off)
	}
	switch f.Tier {
	case "", cell.TierAuto, cell.TierImage, cell.TierTree:
	default:
		c.bad("tier", "%q is not one of %s, %s, %s", f.Tier, cell.TierAuto, cell.TierImage, cell.TierTree)
	}
	if err := cell.CheckIDMapping(f.IDMapping); err != nil {
		c.bad("id_mapping", "%v", err)
	}
	c.fleet(f, &o)
	if len(f.Repositories) == 0 {
		c.bad("repositories", "none; list at least one")
	}
	network := c.network(f)
	seen := map[string]string{}
	for i := range f.Repositories {
		where := fmt.Sprintf("repositories[%d]", i)
		r := c.repository(where, &f.Repositories[i], f, network)
		for key, value := range map[string]string{"name": r.Name, "mountpoint": r.Mountpoint} {
			if first, ok := seen[key+value]; ok && value != "" {
				c.bad(where+"."+key, "%s is that of %s already", value, first)
			}
			seen[key+value] = where
		}
		o.Repositories = append(o.Repositories, r)
	}
	return o
}

func (c *checker) fleet(f *file, o *cell.Options) {
	o.CellName, o.CellID, o.Labels = f.Name, f.ID, f.Labels
	if err := rollout.CheckLabels(f.Labels); err != nil {
		c.bad("labels", "%v", err)
	}
	if d := f.Droplets; d != nil {
		o.Droplets = cell.Droplets{Containers: c.path(d.Containers), Rate: int64(d.Rate), After: time.Duration(d.After)}
		if d.Containers == "" {
			c.bad("droplets.containers", "missing; name the directory containers in the plugin's store")
		}
	}
	if f.Garden != "" {
		g, err := garden.New(f.Garden)
		if err != nil {
			c.bad("garden", "%v", err)
		} else {
			o.Garden = g
		}
	}
	if f.Fleet == nil {
		return
	}
	complete := true
	for setting, value := range map[string]string{
		"listen": f.Fleet.Listen, "cert": f.Fleet.Cert, "key": f.Fleet.Key, "ca": f.Fleet.CA,
	} {
		if value == "" {
			c.bad("fleet."+setting, "missing; listen, cert, key and ca belong together: only who has a certificate of ca may ask")
			complete = false
		}
	}
	if !complete {
		return
	}
	if _, _, err := net.SplitHostPort(f.Fleet.Listen); err != nil {
		c.bad("fleet.listen", "%v", err)
	}
	t, err := serve.TLS(c.path(f.Fleet.Cert), c.path(f.Fleet.Key), c.path(f.Fleet.CA))
	if err != nil {
		c.bad("fleet", "%v", err)
	}
	o.Fleet = cell.Fleet{Listen: f.Fleet.Listen, TLS: t}
}

// network is what all repositories have in common. They share the bandwidth.
func (c *checker) network(f *file) fetch.Config {
	n := fetch.Config{
		Timeout: time.Duration(f.Timeout), TimeoutDirect: time.Duration(f.Timeout),
		Hedge: f.Hedge, Concurrency: f.Requests, Bandwidth: fetch.NewBandwidth(int64(f.Bandwidth)),
	}
	if f.Requests < 0 {
		c.bad("requests", "%d; how many may be under way at a time, or leave it out", f.Requests)
	}
	var err error
	if n.TLS, err = fetch.LoadTLS(c.path(f.CA), c.path(f.Certificate), c.path(f.Key)); err != nil {
		c.bad("ca, client_certificate, client_key", "%v", err)
	}
	return n
}

func (c *checker) repository(where string, in *repository, f *file, network fetch.Config) cell.Repository {
	r := cell.Repository{
		Name: in.Name, Proxies: or(in.Proxies, f.Proxies), Mountpoint: c.path(in.Mountpoint),
		Tag: in.Tag, Blacklist: c.path(f.Blacklist), Refresh: time.Duration(or(in.Refresh, f.Refresh)),
		Network: network,
	}
	if err := manifest.CheckName(in.Name); err != nil {
		c.bad(where+".name", "%v", err)
	}
	if in.Mountpoint == "" {
		c.bad(where+".mountpoint", "missing; name an existing directory")
	}
	if len(in.Servers) == 0 {
		c.bad(where+".servers", "none; list the repository's base URLs in order of preference")
	}
	for i, s := range in.Servers {
		s = strings.ReplaceAll(s, "@fqrn@", in.Name)
		if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			c.bad(fmt.Sprintf("%s.servers[%d]", where, i), "%q is no http or https URL", s)
		}
		r.Servers = append(r.Servers, s)
	}
	if r.Proxies != "" {
		if _, err := fetch.ParseProxies(r.Proxies, ""); err != nil {
			c.bad(where+".proxies", "%v", err)
		}
	}
	if in.RootHash != "" {
		var err error
		if r.RootHash, err = object.ParseHash(in.RootHash); err != nil {
			c.bad(where+".root_hash", "%v", err)
		}
		if in.Tag != "" {
			c.bad(where+".tag", "root_hash fixes what is shown already; remove one of them")
		}
	}
	if len(in.Keys) == 0 && in.RootHash == "" {
		c.bad(where+".keys", "none; without %s.pub nothing a server says can be verified", in.Name)
	}
	for _, k := range in.Keys {
		keys, err := c.publicKeys(k)
		if err != nil {
			c.bad(where+".keys", "%v", err)
		}
		r.Keys = append(r.Keys, keys...)
	}
	return r
}

// publicKeys are those of a file, or those that stand in the configuration
// itself, as where a deployment tool renders all of it.
func (c *checker) publicKeys(key string) ([]*rsa.PublicKey, error) {
	if strings.HasPrefix(strings.TrimSpace(key), "-----BEGIN ") {
		return manifest.ParsePublicKeys([]byte(key))
	}
	return manifest.LoadPublicKeys(c.path(key))
}

func or[T comparable](first, second T) T {
	var zero T
	if first != zero {
		return first
	}
	return second
}
