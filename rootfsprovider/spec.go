package rootfsprovider

import (
	"encoding/json"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Spec is the document Garden reads: of a runtime configuration it takes the
// root's path and the environment, which it puts before the container's own.
type Spec struct {
	Version string   `json:"ociVersion"`
	Process Process  `json:"process"`
	Root    RootPath `json:"root"`
	// Mounts come before the container's own.
	Mounts []specs.Mount `json:"mounts,omitempty"`

	foreign json.RawMessage // another plugin's document, instead of all that
}

// MarshalJSON implements json.Marshaler.
func (s Spec) MarshalJSON() ([]byte, error) {
	if s.foreign != nil {
		return s.foreign, nil
	}
	type plain Spec
	return json.Marshal(plain(s))
}

// Process is as much of a runtime configuration's as an image decides.
type Process struct {
	Env []string `json:"env"`
}

// RootPath is where the container's root file system is mounted.
type RootPath struct {
	Path string `json:"path"`
}

// newSpec leaves out what is no environment variable: an image's
// configuration is not ours, and runc refuses the whole container for it.
func newSpec(rootfs string, env []string) Spec {
	good := []string{} // an array in the document, even if empty
	for _, kv := range env {
		if i := strings.IndexByte(kv, '='); i > 0 && strings.IndexByte(kv, 0) < 0 {
			good = append(good, kv)
		}
	}
	return Spec{Version: specs.Version, Process: Process{Env: good}, Root: RootPath{Path: rootfs}}
}
