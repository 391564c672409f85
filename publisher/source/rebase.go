package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Labels of Cloud Native Buildpacks (buildpacks/spec, platform.md).
const (
	lifecycleLabel = "io.buildpacks.lifecycle.metadata"
	stackLabel     = "io.buildpacks.stack.id"
	distroName     = "io.buildpacks.base.distro.name"
	distroVersion  = "io.buildpacks.base.distro.version"
	rebasable      = "io.buildpacks.rebasable"
)

// Rebase puts the layers that buildpacks made of an app on another run image,
// as pack rebase does: the label io.buildpacks.lifecycle.metadata of app says
// which layer is the topmost of the run image it was built on, and all above it
// are kept. The configuration stays app's but for the layers below and what the
// label says of the run image.
//
// The result has app's name and no manifest: its digest is that of its
// configuration. It takes app and onto over, also on an error: closing it
// closes them.
func Rebase(app, onto *Source) (_ *Source, err error) {
	s := &Source{
		Kind: KindImage, Registry: app.Registry, Repository: app.Repository, Tag: app.Tag,
		closers: []func() error{app.Close, onto.Close},
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("rebase: %w", err), s.Close())
		}
	}()
	was, err := readConfig(app.Config)
	if err != nil {
		return nil, fmt.Errorf("the image: %w", err)
	}
	base, err := readConfig(onto.Config)
	if err != nil {
		return nil, fmt.Errorf("the run image: %w", err)
	}
	if err := was.fits(base); err != nil {
		return nil, err
	}
	top, err := was.topLayer()
	if err != nil {
		return nil, err
	}
	s.Layers = append(slices.Clone(onto.Layers), app.Layers[top+1:]...)
	if s.Config, err = was.onto(base, top, onto.Digest); err != nil {
		return nil, err
	}
	s.ConfigDigest = digestOf(s.Config)
	s.Digest = s.ConfigDigest
	return s, nil
}

// config is an image's configuration: what a rebase reads of it, and all of it
// to write back.
type config struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
	Config       struct {
		Labels map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []json.RawMessage `json:"history"`

	raw map[string]json.RawMessage
}

func readConfig(b []byte) (*config, error) {
	c := &config{}
	if err := errors.Join(json.Unmarshal(b, c), json.Unmarshal(b, &c.raw)); err != nil {
		return nil, fmt.Errorf("%w config: %w", ErrFormat, err)
	}
	return c, nil
}

// fits refuses a run image that the app's programs would not run on.
func (c *config) fits(base *config) error {
	if c.OS != base.OS || c.Architecture != base.Architecture || c.Variant != base.Variant {
		return fmt.Errorf("%w: the image is for %s/%s%s, the run image for %s/%s%s; choose with --platform",
			ErrUnsupported, c.OS, c.Architecture, c.Variant, base.OS, base.Architecture, base.Variant)
	}
	if c.Config.Labels[rebasable] == "false" {
		return fmt.Errorf("%w: its builder says by the label %s that the image cannot be rebased (an extension changed its run image); build it anew from its source", ErrUnsupported, rebasable)
	}
	for _, label := range []string{stackLabel, distroName, distroVersion} {
		a, b := c.Config.Labels[label], base.Config.Labels[label]
		if a != "" && b != "" && a != b {
			return fmt.Errorf("%w: the image was built for %s %q, the run image is %q; build it anew from its source", ErrUnsupported, label, a, b)
		}
	}
	return nil
}

// topLayer is the index of the topmost layer that is the run image's.
func (c *config) topLayer() (int, error) {
	label := c.Config.Labels[lifecycleLabel]
	if label == "" {
		return 0, fmt.Errorf("%w: the image has no label %s, so that nothing says where its own layers begin; only images that buildpacks built can be rebased", ErrUnsupported, lifecycleLabel)
	}
	var m struct {
		RunImage struct {
			TopLayer string `json:"topLayer"`
		} `json:"runImage"`
	}
	if err := json.Unmarshal([]byte(label), &m); err != nil {
		return 0, fmt.Errorf("%w label %s: %w", ErrFormat, lifecycleLabel, err)
	}
	top := slices.Index(c.RootFS.DiffIDs, m.RunImage.TopLayer)
	if top < 0 {
		return 0, fmt.Errorf("%w label %s: the run image's topmost layer %q is none of the image's", ErrFormat, lifecycleLabel, m.RunImage.TopLayer)
	}
	return top, nil
}

// onto is the configuration on top of base, whose digest the label will name,
// in place of the layers up to top.
func (c *config) onto(base *config, top int, digest string) ([]byte, error) {
	if len(base.RootFS.DiffIDs) == 0 {
		return nil, fmt.Errorf("%w: the run image has no layers", ErrUnsupported)
	}
	var label map[string]json.RawMessage
	run := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(c.Config.Labels[lifecycleLabel]), &label); err != nil {
		return nil, fmt.Errorf("%w label %s: %w", ErrFormat, lifecycleLabel, err)
	}
	if err := json.Unmarshal(label["runImage"], &run); err != nil {
		return nil, fmt.Errorf("%w label %s: %w", ErrFormat, lifecycleLabel, err)
	}
	run["topLayer"] = quoted(base.RootFS.DiffIDs[len(base.RootFS.DiffIDs)-1])
	run["reference"] = quoted(digest)
	var err error
	if label["runImage"], err = json.Marshal(run); err != nil {
		return nil, err
	}
	text, err := json.Marshal(label)
	if err != nil {
		return nil, err
	}
	inner, labels := map[string]json.RawMessage{}, map[string]string{}
	if err := json.Unmarshal(c.raw["config"], &inner); err != nil {
		return nil, fmt.Errorf("%w config: %w", ErrFormat, err)
	}
	for k, v := range c.Config.Labels {
		labels[k] = v
	}
	labels[lifecycleLabel] = string(text)
	if inner["Labels"], err = json.Marshal(labels); err != nil {
		return nil, err
	}
	ids := append(slices.Clone(base.RootFS.DiffIDs), c.RootFS.DiffIDs[top+1:]...)
	next := map[string]json.RawMessage{}
	for k, v := range c.raw {
		next[k] = v
	}
	if next["config"], err = json.Marshal(inner); err != nil {
		return nil, err
	}
	if next["rootfs"], err = json.Marshal(map[string]any{"type": "layers", "diff_ids": ids}); err != nil {
		return nil, err
	}
	if history := rebasedHistory(c, base, top); history != nil {
		if next["history"], err = json.Marshal(history); err != nil {
			return nil, err
		}
	} else {
		delete(next, "history")
	}
	return json.Marshal(next)
}

func quoted(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return json.RawMessage(`""`)
	}
	return b
}

// rebasedHistory joins what both histories say of the layers that are in the
// result; nil where either does not say it of each of its layers.
func rebasedHistory(c, base *config, top int) []json.RawMessage {
	below, ok := historyFrom(base, 0)
	above, ok2 := historyFrom(c, top+1)
	if !ok || !ok2 {
		return nil
	}
	return append(below, above...)
}

// historyFrom is the part of c's history that belongs to its layers from layer
// first on.
func historyFrom(c *config, first int) ([]json.RawMessage, bool) {
	layers, from := 0, -1
	for i, h := range c.History {
		var e struct {
			Empty bool `json:"empty_layer"`
		}
		if json.Unmarshal(h, &e) != nil {
			return nil, false
		}
		if layers == first && from < 0 {
			from = i
		}
		if !e.Empty {
			layers++
		}
	}
	if layers != len(c.RootFS.DiffIDs) {
		return nil, false
	}
	if from < 0 {
		return nil, true
	}
	return slices.Clone(c.History[from:]), true
}
