// Package cvmfsconfig reads the configuration that an operator of stock
// CernVM-FS clients already has: KEY=VALUE files below /etc/cvmfs, in the stock
// order, become the settings of a cell.
//
// What flows through it: files, line by line, into a [Config] of text values,
// each of which remembers where it was set; [Config.Settings] turns the ones we
// know into numbers, times and names, and says which ones it did not use. No
// shell is run: assignments, simple conditionals and $VARIABLES are understood
// (CVMFS-FORMAT 6.1), anything else is an error that names file and line.
package cvmfsconfig

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/manifest"
)

var (
	// ErrSyntax reports a line that is neither an assignment nor a
	// conditional of the simple kind.
	ErrSyntax = errors.New("malformed configuration")
	// ErrValue reports a parameter whose value makes no sense, or one that
	// is needed and missing.
	ErrValue = errors.New("bad configuration")
)

const (
	maxFile = 1 << 20 // bytes of one file
	// configRepository names a repository whose etc/cvmfs holds further
	// files; once the distribution's files are read, nothing may change it.
	configRepository = "CVMFS_CONFIG_REPOSITORY"
	defaultMounts    = "/cvmfs"
)

// Value is a parameter's text and the place that set it.
type Value struct {
	Text string
	File string
	Line int
}

func (v Value) where() string { return fmt.Sprintf("%s:%d", v.File, v.Line) }

// Config is what the files of one repository add up to.
type Config struct {
	Name   string // fully qualified repository name
	Values map[string]Value
	// Notes are what an operator should know though it is no error: a
	// protected parameter that a later file tried to change, a configuration
	// repository that is not mounted.
	Notes []string

	dir       string
	protected map[string]bool
}

// Read reads the files below dir, /etc/cvmfs on most machines, that apply to
// repository name. A name without a dot is completed by CVMFS_DEFAULT_DOMAIN.
// Files that do not exist are passed over; a directory that does not is an
// error. Errors wrap [ErrSyntax] or [ErrValue], or are those of reading.
func Read(dir, name string) (*Config, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%w: %s is not a directory; name the one that holds default.local, such as /etc/cvmfs", ErrValue, dir)
	}
	if !strings.Contains(name, ".") {
		c := newConfig(dir, "")
		if err := c.readDefaults(); err != nil {
			return nil, err
		}
		domain := c.Values["CVMFS_DEFAULT_DOMAIN"].Text
		if domain == "" {
			return nil, fmt.Errorf("%w: repository %q has no domain: name it in full, or set CVMFS_DEFAULT_DOMAIN", ErrValue, name)
		}
		name += "." + domain
	}
	if err := manifest.CheckName(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrValue, err)
	}
	c := newConfig(dir, name)
	if err := c.readDefaults(); err != nil {
		return nil, err
	}
	_, domain, _ := strings.Cut(name, ".")
	for _, rel := range []string{"domain.d/" + domain, "config.d/" + name} {
		if err := c.readShared(rel + ".conf"); err != nil {
			return nil, err
		}
		for _, ext := range []string{".conf", ".local"} {
			if err := c.readFile(filepath.Join(dir, rel+ext)); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

func newConfig(dir, name string) *Config {
	return &Config{Name: name, Values: map[string]Value{}, dir: dir, protected: map[string]bool{}}
}

// readDefaults reads what applies to every repository.
func (c *Config) readDefaults() error {
	if err := c.readFile(filepath.Join(c.dir, "default.conf")); err != nil {
		return err
	}
	more, err := filepath.Glob(filepath.Join(escapeGlob(c.dir), "default.d", "*.conf"))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	slices.Sort(more)
	for _, file := range more {
		if err := c.readFile(file); err != nil {
			return err
		}
	}
	if _, ok := c.Values[configRepository]; ok {
		c.protected[configRepository] = true
	}
	if err := c.readShared("default.conf"); err != nil {
		return err
	}
	return c.readFile(filepath.Join(c.dir, "default.local"))
}

func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// readShared reads a file of the configuration repository, if one is set and is
// not the repository that is being configured.
func (c *Config) readShared(rel string) error {
	repo := c.Values[configRepository].Text
	if repo == "" || repo == c.Name {
		return nil
	}
	if err := manifest.CheckName(repo); err != nil {
		return fmt.Errorf("%w: %s: %s: %w", ErrValue, c.Values[configRepository].where(), configRepository, err)
	}
	mounts := c.Values["CVMFS_MOUNT_DIR"].Text
	if mounts == "" {
		mounts = defaultMounts
	}
	dir := filepath.Join(mounts, repo, "etc", "cvmfs")
	if _, err := os.Stat(dir); err != nil {
		if isOn(c.Values["CVMFS_CONFIG_REPO_REQUIRED"].Text) {
			return fmt.Errorf("configuration repository %s is required and not there: %w; mount it first", repo, err)
		}
		c.note("configuration repository %s is not mounted (no %s): its files do not count", repo, dir)
		return nil
	}
	return c.readFile(filepath.Join(dir, rel))
}

func (c *Config) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(c.Notes, n) {
		c.Notes = append(c.Notes, n)
	}
}

func (c *Config) readFile(path string) error {
	f, err := os.Open(path) // #nosec G304 -- below the directory the operator named
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if len(text) > maxFile {
		return fmt.Errorf("%w: %s is larger than %d bytes", ErrSyntax, path, maxFile)
	}
	return c.Parse(path, string(text))
}

// set assigns unless the parameter is protected.
func (c *Config) set(key string, v Value) {
	if old := c.Values[key]; c.protected[key] && old.Text != v.Text {
		c.note("%s: %s stays %q, which %s set: later files cannot change it", v.where(), key, old.Text, old.where())
		return
	}
	c.Values[key] = v
}

// Keys lists the parameters that are set, sorted.
func (c *Config) Keys() []string { return slices.Sorted(maps.Keys(c.Values)) }

// Lookup returns a parameter's value with the repository's name filled in. It
// serves the variables of symbolic links (CVMFS-FORMAT 2.6).
func (c *Config) Lookup(key string) (string, bool) {
	v, ok := c.Values[key]
	return c.fill(v.Text), ok
}

// fill replaces the templates @fqrn@ and @org@.
func (c *Config) fill(text string) string {
	org, _, _ := strings.Cut(c.Name, ".")
	return strings.NewReplacer("@fqrn@", c.Name, "@org@", org).Replace(text)
}

// isOn knows the words that stock reads as yes; everything else is no.
func isOn(text string) bool {
	switch strings.ToUpper(text) {
	case "YES", "ON", "1", "TRUE":
		return true
	}
	return false
}
