package rootfsprovider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// DefaultStore is where containers' write layers and records lie unless
// configured otherwise.
const DefaultStore = "/var/lib/rootstock/plugin"

// maxConfig bounds a configuration file in bytes.
const maxConfig = 1 << 20

// Config is the plugin's configuration file, JSON. The empty object is a valid
// one.
type Config struct {
	// Store is the directory of write layers and records.
	Store string `json:"store"`
	// Socket is where the cell's daemon listens.
	Socket string `json:"socket"`
	// Repositories gives repositories short names: in a rootfs URI the name
	// stands for the fully qualified one.
	Repositories map[string]string `json:"repositories"`
	// UIDMaps and GIDMaps are the user namespace of the containers this
	// configuration is for; none where they have the host's ids.
	UIDMaps []overlay.IDRange `json:"uid_maps"`
	GIDMaps []overlay.IDRange `json:"gid_maps"`
	// LogLevel is debug, info or error.
	LogLevel string `json:"log_level"`

	Images
	Stacking
	// Fallback is the plugin for images that are not published; nil for none.
	Fallback *Program `json:"fallback,omitempty"`
	// Pool is how many file systems for write layers are made ahead, per
	// size that containers ask for, where the store has no project quotas.
	Pool int `json:"pool"`
}

// ReadConfig reads a configuration file. Unknown keys are errors.
func ReadConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads a configuration, fills in the defaults and checks it.
func ParseConfig(text []byte) (Config, error) {
	if len(text) > maxConfig {
		return Config{}, fmt.Errorf("longer than %d bytes", maxConfig)
	}
	c := Config{Store: DefaultStore, Socket: control.DefaultSocket, LogLevel: "info"}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, err
	}
	if d.More() {
		return Config{}, errors.New("something follows the JSON object")
	}
	return c, c.check()
}

func (c Config) check() error {
	if err := errors.Join(checkPath("store", c.Store), checkPath("socket", c.Socket)); err != nil {
		return err
	}
	for alias, name := range c.Repositories {
		for _, word := range []string{alias, name} {
			r := reference.Reference{Repository: word, Kind: reference.Rootfs, Name: "x"}
			if err := r.Validate(); err != nil {
				return fmt.Errorf("repositories: %q: %q is not a repository's name", alias, word)
			}
		}
	}
	if _, err := c.Level(); err != nil {
		return err
	}
	if c.Pool < 0 || c.Pool > maxPool {
		return fmt.Errorf("pool: %d is not between 0 and %d", c.Pool, maxPool)
	}
	if err := errors.Join(c.Images.check(), c.Stacking.check(CVMFS(c.Repositories)), c.Fallback.check()); err != nil {
		return err
	}
	return c.Mapping().Validate()
}

// checkPath demands an absolute path, spelled in the one way there is.
func checkPath(key, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return fmt.Errorf("%s: %q is not a clean absolute path", key, path)
	}
	return nil
}

// Mapping returns the user namespace's mapping.
func (c Config) Mapping() overlay.Mapping {
	return overlay.Mapping{UIDs: c.UIDMaps, GIDs: c.GIDMaps}
}

// Level returns the least level to log.
func (c Config) Level() (slog.Level, error) {
	switch c.LogLevel {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log_level: %q is not one of debug, info, error", c.LogLevel)
}
