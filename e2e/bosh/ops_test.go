package bosh_test

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// op is one entry of an ops-file.
type op struct {
	Type  string `yaml:"type"`
	Path  string `yaml:"path"`
	Value any    `yaml:"value"`
}

// apply does what an ops-file says, strictly: what a path names has to be there
// unless it has a question mark from there on.
func apply(doc any, ops []op) (any, error) {
	for i, o := range ops {
		if o.Type != "replace" && o.Type != "remove" || !strings.HasPrefix(o.Path, "/") || (o.Type == "remove") != (o.Value == nil) {
			return nil, fmt.Errorf("operation %d is not one: %+v", i, o)
		}
		var err error
		if doc, err = change(doc, strings.Split(o.Path[1:], "/"), o, false); err != nil {
			return nil, fmt.Errorf("operation %d, %s: %w", i, o.Path, err)
		}
	}
	return doc, nil
}

var unescape = strings.NewReplacer("~1", "/", "~0", "~")

// change returns node with what lies at path changed.
func change(node any, path []string, o op, optional bool) (any, error) {
	if len(path) == 0 {
		return o.Value, nil
	}
	token, mark := strings.CutSuffix(path[0], "?")
	optional = optional || mark
	last := len(path) == 1
	if name, ok := strings.CutSuffix(token, ":before"); ok && last {
		list, i, err := find(node, name)
		if err != nil {
			return nil, err
		}
		return slices.Insert(list, i, o.Value), nil
	}
	if token == "-" && last {
		list, ok := node.([]any)
		if !ok && (node != nil || !optional) {
			return nil, errors.New("it is no list")
		}
		return append(list, o.Value), nil
	}
	if strings.Contains(token, "=") {
		list, i, err := find(node, token)
		if err != nil {
			return nil, err
		}
		if last && o.Type == "remove" {
			return slices.Delete(list, i, i+1), nil
		}
		list[i], err = change(list[i], path[1:], o, optional)
		return list, err
	}
	key := unescape.Replace(token)
	if node == nil && optional {
		node = m{}
	}
	in, ok := node.(m)
	if !ok {
		return nil, fmt.Errorf("%s is looked for in no map", key)
	}
	below, there := in[key]
	if !there && !optional {
		return nil, fmt.Errorf("there is no %s", key)
	}
	if last && o.Type == "remove" {
		delete(in, key)
		return in, nil
	}
	var err error
	in[key], err = change(below, path[1:], o, optional)
	return in, err
}

func find(node any, token string) ([]any, int, error) {
	key, value, _ := strings.Cut(token, "=")
	list, ok := node.([]any)
	i := slices.IndexFunc(list, func(e any) bool { in, ok := e.(m); return ok && in[key] == value })
	if !ok || i < 0 {
		return nil, 0, fmt.Errorf("no entry has %s", token)
	}
	return list, i, nil
}

// manifest is the deployment with ops-files applied, in their order.
func manifest(t *testing.T, files ...string) m {
	t.Helper()
	var doc any
	must(t, yaml.Unmarshal([]byte(read(t, "testdata/cf.yml")), &doc))
	args := []string{"int", "testdata/cf.yml"}
	for _, f := range files {
		path := filepath.Join(release, "operations", f+".yml")
		var ops []op
		parse(t, path, &ops)
		var err error
		if doc, err = apply(doc, ops); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		args = append(args, "--ops-file", path)
	}
	// The real thing, where there is one, says the same.
	if cli, err := exec.LookPath("bosh"); err == nil {
		var theirs any
		must(t, yaml.Unmarshal([]byte(command(t, cli, args...)), &theirs))
		if diff := cmp.Diff(theirs, doc); diff != "" {
			t.Errorf("bosh int makes another manifest of %v:\n%s", files, diff)
		}
	}
	in, ok := doc.(m)
	if !ok {
		t.Fatal("the manifest is no map")
	}
	return in
}

// jobs are those of an instance group, by name and in order.
func jobs(t *testing.T, doc m, group string) (map[string]m, []string) {
	t.Helper()
	list, i, err := find(doc["instance_groups"], "name="+group)
	must(t, err)
	byName := map[string]m{}
	var order []string
	for _, j := range list[i].(m)["jobs"].([]any) {
		name := j.(m)["name"].(string)
		byName[name] = j.(m)
		order = append(order, name)
	}
	return byName, order
}

var variable = regexp.MustCompile(`^\(\(([A-Za-z0-9_.]+)\)\)$`)

// interpolate replaces variables with what CredHub, or the operator, would give.
func interpolate(t *testing.T, node any) any {
	t.Helper()
	switch v := node.(type) {
	case m:
		out := m{}
		for k, e := range v {
			out[k] = interpolate(t, e)
		}
		return out
	case []any:
		var out []any
		for _, e := range v {
			out = append(out, interpolate(t, e))
		}
		return out
	case string:
		match := variable.FindStringSubmatch(v)
		if match == nil {
			return v
		}
		release, master := key(t, "release"), key(t, "master")
		ca, err := rootstockCA()
		must(t, err)
		server := certificate(t, "stratum0")
		value, ok := m{
			"rootstock_ca.certificate": ca.certificate, "rootstock_cell_tls": certificate(t, "cell"), "rootstock_fleet_cell": certificate(t, "fleet"),
			"rootstock_stratum0_tls.certificate": server["certificate"], "rootstock_stratum0_tls.private_key": server["private_key"],
			"rootstock_release_key": m{"certificate": release.certificate, "private_key": release.private, "ca": release.certificate},
			"rootstock_master_key":  m{"public_key": master.public, "private_key": master.private},
			"rootstock_public_key":  master.public, "rootstock_public_keys": []any{master.public},
			"rootstock_name": "rootfs.example.org", "rootstock_servers": []any{"http://s/cvmfs/@fqrn@"},
			"rootstock_wishlist": m{"images": []any{m{"source": "docker://docker.io/library/debian:12"}}},
			"rootstock_public":   []any{"docker.io/library"}, "rootstock_proxies": "http://p:3128",
			"rootstock_store": "s3://bucket", "rootstock_s3_endpoint": "https://s3.example.org", "rootstock_s3_region": "r",
			"rootstock_s3_access_key_id": "id", "rootstock_s3_secret_access_key": "secret",
			"diego_instance_identity_ca.ca": release.certificate, "credhub_tls.ca": release.certificate, "uaa_ssl.ca": release.certificate,
		}[match[1]]
		if !ok {
			t.Fatalf("variable %s is not described in this test", match[1])
		}
		return value
	}
	return node
}

// needs are what an ops-file comes after, besides the first.
var needs = map[string][]string{"publish-on-demand": {"mutual-tls", "docker-images"}}

// Each ops-file applies, alone after those that it needs, and what comes out renders with
// properties that the jobs have.
func TestOperations(t *testing.T) {
	t.Parallel()
	files := names(t, release+"/operations")
	readme := read(t, release+"/README.md")
	for _, f := range files {
		f = strings.TrimSuffix(f, ".yml")
		if !strings.Contains(readme, "`"+f+".yml`") {
			t.Errorf("README.md does not list %s.yml", f)
		}
		applied := append([]string{"add-rootstock"}, needs[f]...)
		if f != applied[0] {
			applied = append(applied, f)
		}
		t.Run(f, func(t *testing.T) {
			doc, _ := interpolate(t, manifest(t, applied...)).(m)
			cells, order := jobs(t, doc, "diego-cell")
			at := slices.Index(order, "garden")
			if at < 2 || order[at-2] != "rootstock-cell" || order[at-1] != "rootstock-garden" {
				t.Errorf("jobs of the cell are in the order %v", order)
			}
			var server *instance
			if _, _, err := find(doc["instance_groups"], "name=rootstock-stratum0"); err == nil {
				group, _ := jobs(t, doc, "rootstock-stratum0")
				server = renders(t, group["rootstock-stratum0"], nil)
			}
			renders(t, cells["rootstock-cell"], server)
			renders(t, cells["rootstock-garden"], server)
		})
	}
}

// renders renders a manifest's job, all of whose properties have to be known.
func renders(t *testing.T, job m, link *instance) *instance {
	t.Helper()
	name, _ := job["name"].(string)
	properties, _ := job["properties"].(m)
	if properties == nil {
		properties = m{}
	}
	known := jobSpecOf(t, name).Properties
	for p := range properties {
		_, ok := known[p]
		group := slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(k string) bool { return strings.HasPrefix(k, p+".") })
		if !ok && !group {
			t.Errorf("%s has no property %s", name, p)
		}
	}
	i := &instance{job: name, properties: properties, link: link}
	if err := i.render(t, t.TempDir()); err != nil {
		t.Error(err)
	}
	return i
}

// What the ops-files are for: each has the effect that its comment and the
// README promise.
func TestOperationsDo(t *testing.T) {
	t.Parallel()
	get := func(files []string, job string, path ...string) any {
		cells, _ := jobs(t, manifest(t, append([]string{"add-rootstock"}, files...)...), "diego-cell")
		node := cells[job]["properties"]
		for _, k := range path {
			in, _ := node.(m)
			node = in[k]
		}
		return node
	}
	for kind, prefix := range map[string]string{"privileged": "privileged_", "unprivileged": ""} {
		if got := get(nil, "garden", "garden", prefix+"image_plugin"); got != plugin {
			t.Errorf("%s image plugin %v", kind, got)
		}
		want := []any{"--config", "/var/vcap/jobs/rootstock-garden/config/" + kind + ".json"}
		if diff := cmp.Diff(want, get(nil, "garden", "garden", prefix+"image_plugin_extra_args")); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
	}
	stack := []string{"stack-cflinuxfs4"}
	if got := get(stack, "rep", "diego", "rep", "preloaded_rootfses"); len(got.([]any)) != 0 {
		t.Errorf("rep preloads %v", got)
	}
	if _, order := jobs(t, manifest(t, "add-rootstock", stack[0]), "diego-cell"); slices.Contains(order, "cflinuxfs4-rootfs-setup") {
		t.Errorf("the stack is still unpacked on the cells: %v", order)
	}
	if got := get([]string{"no-fallback"}, "rootstock-garden", "fallback"); got != false {
		t.Errorf("fallback %v", got)
	}

	if got := get([]string{"droplets"}, "rootstock-cell", "droplets", "rate"); got != "8MiB" {
		t.Errorf("droplets are read at %v", got)
	}
	if got := get([]string{"mutual-tls", "docker-images", "publish-on-demand"}, "rootstock-garden", "wishes", "ca"); got != "((rootstock_ca.certificate))" {
		t.Errorf("publishers are trusted by %v", got)
	}

	// What the plugin's configuration names is seen where Garden runs in bpm.
	volumes, _ := get([]string{"garden-bpm"}, "garden", "garden", "additional_bpm_volumes").([]any)
	out := t.TempDir()
	for _, job := range []*instance{cellJob(t), gardenJob()} {
		must(t, job.render(t, out))
	}
	for _, file := range []string{"privileged.json", "unprivileged.json", "cell.json"} {
		for _, path := range regexp.MustCompile(`"/var/vcap/[^"]+"`).FindAllString(read(t, out+"/config/"+file), -1) {
			path = strings.Trim(path, `"`)
			if strings.HasPrefix(path, "/var/vcap/data/garden/") {
				continue // Garden's own
			}
			if !slices.ContainsFunc(volumes, func(v any) bool { return strings.HasPrefix(path+"/", v.(string)+"/") }) {
				t.Errorf("%s of %s is in none of %v", path, file, volumes)
			}
		}
	}
}
