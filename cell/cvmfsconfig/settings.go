package cvmfsconfig

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/object"
)

// DateLayout is how CVMFS_REPOSITORY_DATE is written.
const DateLayout = "2006-01-02T15:04:05Z"

// Settings are what the parameters mean to a cell. Zero values are the
// defaults of whoever is given them.
type Settings struct {
	Name       string
	Mountpoint string // CVMFS_MOUNT_DIR with the name below it

	Servers       []string     // CVMFS_SERVER_URL, in order of preference
	Network       fetch.Config // proxies, time limits, retries; its Servers is empty
	External      []string     // CVMFS_EXTERNAL_URL
	ExternalProxy string       // CVMFS_EXTERNAL_HTTP_PROXY

	PublicKeys []string // files
	Blacklist  string   // file, "" for none

	CacheDir string
	Quota    int64 // bytes, 0 for no bound

	Tag      string
	RootHash object.Hash
	Date     time.Time

	MaxTTL         time.Duration // upper limit on the time between two looks, 0 for none
	AutoUpdate     bool
	ClaimOwnership bool

	// Unknown are parameters that neither we nor stock clients know;
	// Unused are those of stock clients that have no effect here. Both as
	// "KEY (file:line)", sorted.
	Unknown, Unused []string
}

// Settings turns the values into what they mean. An error wraps [ErrValue] and
// names parameter, file and line.
func (c *Config) Settings() (Settings, error) {
	r := reader{c: c, used: map[string]bool{}}
	s := Settings{
		Name:           c.Name,
		Mountpoint:     filepath.Join(r.text("CVMFS_MOUNT_DIR", defaultMounts), c.Name),
		Servers:        r.list("CVMFS_SERVER_URL", ";"),
		External:       r.list("CVMFS_EXTERNAL_URL", ";"),
		ExternalProxy:  r.text("CVMFS_EXTERNAL_HTTP_PROXY", fetch.Direct),
		Tag:            r.text("CVMFS_REPOSITORY_TAG", ""),
		MaxTTL:         r.duration("CVMFS_MAX_TTL", 0, time.Minute),
		AutoUpdate:     r.yes("CVMFS_AUTO_UPDATE", true),
		ClaimOwnership: r.yes("CVMFS_CLAIM_OWNERSHIP", false),
		Quota:          max(0, r.number("CVMFS_QUOTA_LIMIT", 1024)) << 20,
		RootHash:       r.hash("CVMFS_ROOT_HASH"),
		Date:           r.date("CVMFS_REPOSITORY_DATE"),
		Network: fetch.Config{
			Proxies:         r.proxies(),
			FallbackProxies: r.text("CVMFS_FALLBACK_PROXY", ""),
			Timeout:         r.duration("CVMFS_TIMEOUT", 5, time.Second),
			TimeoutDirect:   r.duration("CVMFS_TIMEOUT_DIRECT", 5, time.Second),
			LowSpeed:        r.number("CVMFS_LOW_SPEED_LIMIT", 1024),
			Retries:         int(r.number("CVMFS_MAX_RETRIES", 1)),
			BackoffInit:     r.duration("CVMFS_BACKOFF_INIT", 2, time.Second),
			BackoffMax:      r.duration("CVMFS_BACKOFF_MAX", 10, time.Second),
			ProxyReset:      r.duration("CVMFS_PROXY_RESET_AFTER", 300, time.Second),
			ServerReset:     r.duration("CVMFS_HOST_RESET_AFTER", 1800, time.Second),
			FollowRedirects: r.yes("CVMFS_FOLLOW_REDIRECTS", false),
		},
	}
	if s.Network.Retries == 0 {
		s.Network.Retries = -1 // to fetch, 0 is the default
	}
	r.strict()
	r.places(&s)
	r.fixed()
	if r.err == nil && len(s.Servers) == 0 {
		r.err = fmt.Errorf("%w: CVMFS_SERVER_URL is not set for %s: set it in %s",
			ErrValue, c.Name, filepath.Join(c.dir, "config.d", c.Name+".local"))
	}
	s.Unknown, s.Unused = r.rest()
	return s, r.err
}

// places finds keys, blacklist and cache.
func (r *reader) places(s *Settings) {
	c := r.c
	keysDir := r.text("CVMFS_KEYS_DIR", filepath.Join(c.dir, "keys"))
	s.PublicKeys = r.list("CVMFS_PUBLIC_KEY", ":")
	if len(s.PublicKeys) == 0 && r.err == nil {
		found, err := filepath.Glob(filepath.Join(escapeGlob(keysDir), "*.pub"))
		switch {
		case err != nil:
			r.err = fmt.Errorf("configuration: %w", err)
		case len(found) == 0 && s.RootHash.IsZero():
			r.err = fmt.Errorf("%w: no public key of %s: CVMFS_PUBLIC_KEY is not set and %s holds no *.pub", ErrValue, c.Name, keysDir)
		}
		s.PublicKeys = found
	}
	s.Blacklist = r.text("CVMFS_BLACKLIST", existing(filepath.Join(c.dir, "blacklist")))
	base := r.text("CVMFS_CACHE_BASE", "/var/lib/cvmfs")
	// A directory of our own below the stock client's: the two lay out their
	// caches differently and must not meet.
	s.CacheDir = filepath.Join(r.text("CVMFS_CACHE_DIR", base), "rootstock", c.Name)
}

// strict refuses a repository that is not listed where only listed ones may be
// mounted.
func (r *reader) strict() {
	listed := r.list("CVMFS_REPOSITORIES", ",")
	if !r.yes("CVMFS_STRICT_MOUNT", false) || r.err != nil {
		return
	}
	domain := r.text("CVMFS_DEFAULT_DOMAIN", "")
	for _, name := range listed {
		if name == r.c.Name || name+"."+domain == r.c.Name {
			return
		}
	}
	r.fail("CVMFS_STRICT_MOUNT", "only repositories of CVMFS_REPOSITORIES may be mounted, and %s is not among them", r.c.Name)
}

// fixed refuses two ways at once of saying which revision to show.
func (r *reader) fixed() {
	var set []string
	for _, key := range []string{"CVMFS_ROOT_HASH", "CVMFS_REPOSITORY_TAG", "CVMFS_REPOSITORY_DATE"} {
		if r.text(key, "") != "" {
			set = append(set, key)
		}
	}
	if len(set) > 1 {
		r.fail(set[0], "set together with %s: keep one of them", strings.Join(set[1:], " and "))
	}
}

// reader takes values out of a Config and keeps the first thing that is wrong.
type reader struct {
	c    *Config
	used map[string]bool
	err  error
}

func (r *reader) fail(key, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s: %s: %s", ErrValue, r.c.Values[key].where(), key, fmt.Sprintf(format, args...))
	}
}

func (r *reader) text(key, fallback string) string {
	r.used[key] = true
	if v, ok := r.c.Lookup(key); ok && v != "" {
		return v
	}
	return fallback
}

func (r *reader) list(key, separator string) []string {
	var list []string
	for part := range strings.SplitSeq(r.text(key, ""), separator) {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// maxNumber keeps what is multiplied by units from overflowing.
const maxNumber = 1 << 31

func (r *reader) number(key string, fallback int64) int64 {
	text := r.text(key, "")
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < -1 || n > maxNumber {
		r.fail(key, "want a whole number, not %.80q", text)
		return fallback
	}
	return n
}

func (r *reader) duration(key string, fallback int64, unit time.Duration) time.Duration {
	n := r.number(key, fallback)
	if n < 0 {
		r.fail(key, "must not be negative")
	}
	return time.Duration(n) * unit
}

func (r *reader) yes(key string, fallback bool) bool {
	text := r.text(key, "")
	switch {
	case text == "":
		return fallback
	case isOn(text):
		return true
	}
	switch strings.ToUpper(text) {
	case "NO", "OFF", "0", "FALSE":
	default:
		r.fail(key, "want yes or no, not %.80q", text)
	}
	return false
}

func (r *reader) hash(key string) (h object.Hash) {
	if text := r.text(key, ""); text != "" {
		var err error
		if h, err = object.ParseHash(text); err != nil {
			r.fail(key, "%v", err)
		}
	}
	return h
}

func (r *reader) date(key string) (t time.Time) {
	if text := r.text(key, ""); text != "" {
		var err error
		if t, err = time.Parse(DateLayout, text); err != nil {
			r.fail(key, "want YYYY-MM-DDThh:mm:ssZ, not %.80q", text)
		}
	}
	return t
}

// proxies insists that somebody has thought about them, as stock does.
func (r *reader) proxies() string {
	text := r.text("CVMFS_HTTP_PROXY", "")
	single := r.text("CVMFS_CLIENT_PROFILE", "") == "single"
	switch {
	case text == "" && single:
		return fetch.Direct
	case text == "" && r.err == nil:
		r.err = fmt.Errorf("%w: CVMFS_HTTP_PROXY is not set: name the site's proxies in %s, or write CVMFS_HTTP_PROXY=%s",
			ErrValue, filepath.Join(r.c.dir, "default.local"), fetch.Direct)
		return text
	case text == "":
		return text
	}
	if _, err := fetch.ParseProxies(text, r.text("CVMFS_FALLBACK_PROXY", "")); err != nil {
		r.fail("CVMFS_HTTP_PROXY", "%v", err)
	}
	return text
}

// rest lists what was set and not asked for.
func (r *reader) rest() (unknown, unused []string) {
	for _, key := range r.c.Keys() {
		switch named := fmt.Sprintf("%s (%s)", key, r.c.Values[key].where()); {
		case r.used[key] || slices.Contains(applied, key):
		case isStock(key):
			unused = append(unused, named)
		default:
			unknown = append(unknown, named)
		}
	}
	return unknown, unused
}
