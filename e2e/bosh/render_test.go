package bosh_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/config"
	"github.com/rootstock-cf/rootstock/publisher/wishlist"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
)

// repository is the one that the tests deploy.
const repository = "rootfs.cf.internal"

type m = map[string]any

// jobSpec is jobs/NAME/spec.
type jobSpec struct {
	Name        string            `yaml:"name"`
	Description string            `yaml:"description"`
	Packages    []string          `yaml:"packages"`
	Templates   map[string]string `yaml:"templates"`
	Consumes    []struct {
		Name     string `yaml:"name"`
		Type     string `yaml:"type"`
		Optional bool   `yaml:"optional"`
	} `yaml:"consumes"`
	Provides []struct {
		Name       string   `yaml:"name"`
		Type       string   `yaml:"type"`
		Properties []string `yaml:"properties"`
	} `yaml:"provides"`
	Properties map[string]struct {
		Type        string `yaml:"type"`
		Description string `yaml:"description"`
		Default     any    `yaml:"default"`
		Example     any    `yaml:"example"`
	} `yaml:"properties"`
}

func jobSpecOf(t testing.TB, job string) (s jobSpec) {
	t.Helper()
	parse(t, filepath.Join(release, "jobs", job, "spec"), &s)
	return s
}

// instance is a job of an instance group: what the Director knows to render it.
type instance struct {
	job        string
	properties m
	link       *instance // to rootstock-stratum0
}

// render writes the job's files to out and returns what is wrong with it.
func (i instance) render(t testing.TB, out string) error {
	t.Helper()
	links := m{}
	if i.link != nil {
		provided := jobSpecOf(t, i.link.job).Provides[0]
		links[provided.Name] = m{"address": "127.0.0.1", "provided": provided.Properties, "properties": i.link.withDefaults(t)}
	}
	doc, err := json.Marshal(m{
		"job": filepath.Join(release, "jobs", i.job), "out": out, "properties": i.properties, "links": links,
		"spec": m{"id": "5a1a2ffe-0000-4000-8000-000000000000", "name": "cell", "az": "z1", "deployment": "cf"},
	})
	must(t, err)
	return theRuby(t).render(t, doc)
}

// withDefaults is what a link shows of an instance.
func (i instance) withDefaults(t testing.TB) m {
	t.Helper()
	all := m{}
	for name, p := range jobSpecOf(t, i.job).Properties {
		if p.Default != nil {
			set(all, name, p.Default)
		}
	}
	merge(all, i.properties)
	return all
}

func set(in m, name string, value any) {
	first, rest, deeper := strings.Cut(name, ".")
	if !deeper {
		in[first] = value
		return
	}
	if in[first] == nil {
		in[first] = m{}
	}
	set(in[first].(m), rest, value)
}

func merge(in, from m) {
	for k, v := range from {
		if below, ok := v.(m); ok {
			if have, ok := in[k].(m); ok {
				merge(have, below)
				continue
			}
		}
		in[k] = v
	}
}

// stratum0 is deployed with as little as it takes.
func stratum0(t testing.TB) *instance {
	release, master := key(t, "release"), key(t, "master")
	return &instance{job: "rootstock-stratum0", properties: m{
		"name":        repository,
		"release_key": m{"certificate": release.certificate, "private_key": release.private},
		"master_key":  m{"public_key": master.public, "private_key": master.private},
	}}
}

func cellJob(t testing.TB) *instance {
	return &instance{job: "rootstock-cell", properties: m{}, link: stratum0(t)}
}

func gardenJob() *instance { return &instance{job: "rootstock-garden", properties: m{}} }

// full says everything there is to say, each differently from its default.
func full(t testing.TB) []*instance {
	s, c, g := stratum0(t), cellJob(t), gardenJob()
	merge(s.properties, m{
		"whitelist_days": 30, "store": "s3://bucket/prefix", "compression": "zlib", "port": 8443, "access_log": true,
		"s3":  m{"endpoint": "https://s3.example.org:9000", "region": "eu-central-1", "access_key_id": "id", "secret_access_key": "se/cr+et"},
		"tls": mutual(t), "meta": m{"administrator": "Platform"},
		"publish":    m{"allow": []string{"docker.io/library", "registry.example.org"}, "tokens": []string{"0123456789abcdef", "fedcba9876543210"}, "port": 8444},
		"sync":       m{"wishlist": m{"images": []any{m{"source": "docker://registry.example.org/a:1"}}}, "interval": "1h30m"},
		"registries": m{"registry.example.org": m{"username": "u", "password": "p:w", "plain_http": true}, "docker.io": m{"username": "d", "password": "x"}},
	})
	c.link = s
	merge(c.properties, m{
		"repositories": []any{m{
			"name": "other.example.org", "servers": []string{"https://s1/cvmfs/@fqrn@", "http://s2/x"},
			"public_keys": []string{key(t, "master").public, key(t, "release").public}, "proxies": "http://p:3128", "refresh": "1m", "tag": "v1",
		}},
		"proxies": "http://p:3128;DIRECT", "ca": key(t, "release").certificate, "cache": m{"quota": "7GB"}, "tier": "tree", "refresh": "9s",
		"client": certificate(t, "cell"), "garden": "127.0.0.1:7777", "fleet": m{"port": 8444, "tls": certificate(t, "cell")},
		"timeout": "3s", "grace": "72h", "scrub": "1MiB", "blacklist": "<rootfs.cf.internal 3", "metrics": m{"port": 9870},
		"drain": m{"timeout": 3600}, "verbose": true, "id": "first", "labels": m{"stage": "canary", "group": "mine"}, "id_mapping": "daemon",
		"droplets": m{"rate": "1MiB", "after": "90s"},
	})
	merge(g.properties, m{
		"stacks":       m{"cflinuxfs4": "cvmfs://stacks/rootfs/cflinuxfs4:stable"},
		"preloaded":    m{"/var/vcap/packages/cflinuxfs4/rootfs.tar": "cvmfs://stacks/rootfs/cflinuxfs4"},
		"repositories": m{"stacks": repository}, "image_repositories": []string{repository}, "public": []string{"docker.io/library"},
		"registries": m{"registry.example.org": m{"plain_http": true}}, "trusted_certs": []string{key(t, "release").certificate, key(t, "release").certificate},
		"droplets":   m{"certificate": key(t, "release").certificate, "private_key": key(t, "release").private, "ca": key(t, "release").certificate},
		"buildpacks": m{"handles": "staging-.*", "mounts": m{"/tmp/bp": "cvmfs://stacks/buildpacks/ruby"}}, "wishes": m{"url": "https://publisher.example.org/wishes", "ca": "x", "token": "y"}, "fallback": false, "pool": 3, "log_level": "debug",
	})
	return []*instance{s, c, g}
}

// Every job renders from as little as there can be, and from everything, to
// documents that parse and that the programs take.
func TestRender(t *testing.T) {
	t.Parallel()
	for what, jobs := range map[string][]*instance{"minimal": {stratum0(t), cellJob(t), gardenJob()}, "full": full(t)} {
		for _, job := range jobs {
			t.Run(what+" "+job.job, func(t *testing.T) {
				out := t.TempDir()
				must(t, job.render(t, out))
				parsed := 0
				must(t, filepath.WalkDir(out, func(path string, d os.DirEntry, err error) error {
					if err != nil || d.IsDir() {
						return err
					}
					var doc any
					switch filepath.Ext(path) {
					case ".json":
						parsed++
						return json.Unmarshal([]byte(read(t, path)), &doc)
					case ".yml":
						parsed++
						return yaml.Unmarshal([]byte(read(t, path)), &doc)
					}
					return nil
				}))
				if parsed == 0 {
					t.Error("no document was rendered")
				}
				accepted(t, job.job, what, out)
				monitored(t, job.job, out)
			})
		}
	}
}

// accepted has the programs' own readers take the configurations.
func accepted(t *testing.T, job, what, out string) {
	t.Helper()
	switch job {
	case "rootstock-stratum0":
		publishes(t, what, out)
	case "rootstock-cell":
		// Where the files that it names are here.
		there := strings.ReplaceAll(read(t, out+"/config/cell.json"), "/var/vcap/jobs/rootstock-cell", out)
		write(t, out+"/config/here.json", there, 0o600)
		o, err := config.Load(out + "/config/here.json")
		must(t, err)
		servers := map[string]string{"minimal": "http://127.0.0.1:8000/cvmfs/", "full": "https://127.0.0.1:8443/cvmfs/"}
		last := o.Repositories[len(o.Repositories)-1]
		if last.Name != repository || len(last.Keys) != 1 || last.Servers[0] != servers[what]+repository {
			t.Errorf("of the link became %+v", last)
		}
		if what == "full" && (len(o.Repositories) != 2 || len(o.Repositories[0].Keys) != 2 || o.Quota != 7e9 || o.Metrics != "127.0.0.1:9870") {
			t.Errorf("%+v", o)
		}
		optional := m{"id": o.CellID, "labels": o.Labels, "id_mapping": o.IDMapping, "droplets": o.Droplets}
		want := map[string]m{"minimal": {
			"id": "", "labels": map[string]string{"az": "z1", "group": "cell"}, "id_mapping": "auto", "droplets": cell.Droplets{},
		}, "full": {
			"id": "first", "labels": map[string]string{"az": "z1", "group": "mine", "stage": "canary"}, "id_mapping": "daemon",
			"droplets": cell.Droplets{Containers: "/proc/1/root/var/vcap/data/rootstock-garden/store/containers", Rate: 1 << 20, After: 90 * time.Second},
		}}[what]
		if diff := cmp.Diff(want, optional); diff != "" {
			t.Error(diff)
		}
		if o.Holder != "/var/vcap/data/rootstock-cell/holder.sock" || o.CellName != "cell/5a1a2ffe-0000-4000-8000-000000000000" || o.Garden == nil {
			t.Errorf("holder %q, name %q, garden %v", o.Holder, o.CellName, o.Garden)
		}
		if fleet := map[string]string{"minimal": "", "full": "0.0.0.0:8444"}[what]; o.Fleet.Listen != fleet || (o.Fleet.TLS == nil) != (fleet == "") {
			t.Errorf("fleet %+v", o.Fleet)
		}
		if shows := o.Repositories[0].Network.TLS; (what == "full") != (shows != nil && len(shows.Certificates) == 1) {
			t.Errorf("to servers the %s cell shows %+v", what, shows)
		}
	case "rootstock-garden":
		const files = "/var/vcap/jobs/rootstock-garden/config/wishes."
		for kind, mapped := range map[string]bool{"privileged": false, "unprivileged": true} {
			c, err := rootfsprovider.ReadConfig(out + "/config/" + kind + ".json")
			must(t, err)
			if (len(c.UIDMaps) == 2 && len(c.GIDMaps) == 2) != mapped {
				t.Errorf("%s: %v %v", kind, c.UIDMaps, c.GIDMaps)
			}
			wishes := &rootfsprovider.Wishes{URL: "https://publisher.example.org/wishes", CA: files + "ca", Token: files + "token"}
			if what == "minimal" {
				wishes = nil
			}
			if diff := cmp.Diff(wishes, c.Wishes); diff != "" {
				t.Errorf("%s: %s", kind, diff)
			}
			if (c.Fallback == nil) != (what == "full") || c.Fallback != nil && c.Fallback.Args[0] != kind {
				t.Errorf("%s: fallback %+v", kind, c.Fallback)
			}
		}
	}
}

// publishes looks at what the stratum 0 publishes by itself.
func publishes(t *testing.T, what, out string) {
	t.Helper()
	list, err := processes(out + "/config/bpm.yml")
	must(t, err)
	args := map[string]string{}
	for _, p := range list {
		args[p.Name] = strings.Join(p.Args, " ")
	}
	names := slices.Sorted(maps.Keys(args))
	wanted, err := wishlist.Read(out + "/config/wishlist.yml")
	if what == "minimal" {
		if !slices.Equal(names, []string{"rootstock-stratum0"}) || err == nil {
			t.Errorf("processes %v, and list %v", names, wanted)
		}
		return
	}
	must(t, err)
	if !slices.Equal(names, []string{"rootstock-publish", "rootstock-stratum0", "rootstock-sync"}) {
		t.Errorf("processes %v", names)
	}
	for name, want := range map[string][]string{
		"rootstock-publish": {
			"--listen 0.0.0.0:8444", "--publish " + repository, "--publish-allow docker.io/library --publish-allow registry.example.org",
			"--publish-tokens ", "--publish-queue /var/vcap/data/rootstock-stratum0/publish.queue", "--publish-plain-http registry.example.org", "--client-ca ",
		},
		"rootstock-sync":     {"--watch --interval 1h30m", "--plain-http registry.example.org", "--store s3://bucket/prefix"},
		"rootstock-stratum0": {"--listen 0.0.0.0:8443"},
	} {
		for _, w := range want {
			if !strings.Contains(args[name], w) {
				t.Errorf("%s runs with %s: no %s", name, args[name], w)
			}
		}
	}
	// Who serves knows no keys.
	if strings.Contains(args["rootstock-stratum0"], "keys") {
		t.Error(args["rootstock-stratum0"])
	}
	if tokens := read(t, out+"/config/tokens"); tokens != "0123456789abcdef\nfedcba9876543210\n" {
		t.Errorf("tokens %q", tokens)
	}
	var login struct {
		Auths map[string]struct{ Auth []byte }
	}
	must(t, json.Unmarshal([]byte(read(t, out+"/config/docker/config.json")), &login))
	for host, want := range map[string]string{"registry.example.org": "u:p:w", "https://index.docker.io/v1/": "d:x"} {
		if got := string(login.Auths[host].Auth); got != want {
			t.Errorf("of %s: %q", host, got)
		}
	}
}

// monitored compares bpm.yml with what monit starts.
func monitored(t *testing.T, job, out string) {
	t.Helper()
	monit := read(t, out+"/monit")
	if job == "rootstock-garden" {
		if monit != "" {
			t.Errorf("it has no process, and monit watches\n%s", monit)
		}
		return
	}
	list, err := processes(out + "/config/bpm.yml")
	must(t, err)
	if n := strings.Count(monit, "check process "); n != len(list) || n == 0 {
		t.Errorf("%d processes, and monit watches %d", len(list), n)
	}
	for _, p := range list {
		if !strings.Contains(monit, fmt.Sprintf("/var/vcap/sys/run/bpm/%s/%s.pid\n", job, p.Name)) {
			t.Errorf("monit does not watch %s", p.Name)
		}
	}
}

// What is missing or wrong is said when a manifest is rendered, by name.
func TestRenderMistakes(t *testing.T) {
	t.Parallel()
	exclusive := stratum0(t)
	merge(exclusive.properties, m{"tls": mutual(t)})
	for name, tc := range map[string]struct {
		job    *instance
		change func(p m)
		want   string
	}{
		"no name":             {stratum0(t), func(p m) { delete(p, "name") }, "Can't find property 'name'"},
		"no release key":      {stratum0(t), func(p m) { delete(p, "release_key") }, "Can't find property 'release_key."},
		"no master key":       {stratum0(t), func(p m) { delete(p, "master_key") }, "Can't find property 'master_key.public_key'"},
		"name":                {stratum0(t), func(p m) { p["name"] = "a/b" }, "name is not a fully qualified name"},
		"store":               {stratum0(t), func(p m) { p["store"] = "bucket" }, `store is "bucket": want s3://`},
		"bucket without keys": {stratum0(t), func(p m) { p["store"] = "s3://bucket" }, "s3 has no access_key_id and no secret_access_key"},
		"half of tls":         {stratum0(t), func(p m) { p["tls"] = m{"certificate": "x"} }, "tls needs both"},
		"days":                {stratum0(t), func(p m) { p["whitelist_days"] = "ten" }, "whitelist_days is not a number"},
		"two lines in s3": {
			stratum0(t), func(p m) { p["store"], p["s3"] = "s3://bucket", m{"access_key_id": "a\nb", "secret_access_key": "x"} }, "more than one line",
		},
		"no repository":  {&instance{job: "rootstock-cell", properties: m{}}, func(m) {}, "repositories is empty and there is no link stratum0"},
		"server missing": {cellJob(t), func(p m) { p["repositories"] = []any{m{"name": "a.b"}} }, "repositories[0].servers is missing: list the base URLs of a.b"},
		"key missing":    {cellJob(t), func(p m) { p["repositories"] = []any{m{"name": "a.b", "servers": []any{"http://s"}}} }, "repositories[0].public_keys is missing"},
		"key is no key": {cellJob(t), func(p m) {
			p["repositories"] = []any{m{"name": "a.b", "servers": []any{"http://s"}, "public_keys": []any{"x"}}}
		}, "repositories[0].public_keys is not"},
		"unknown setting": {cellJob(t), func(p m) { p["repositories"] = []any{m{"nam": "a.b"}} }, "repositories[0] has nam, which is not known"},
		"way out":         {cellJob(t), func(p m) { p["repositories"] = []any{m{"name": "../x"}} }, "repositories[0].name is missing or not"},
		"tier":            {cellJob(t), func(p m) { p["tier"] = "trees" }, `tier is "trees", not one of`},
		"port":            {cellJob(t), func(p m) { p["metrics"] = m{"port": "x"} }, "metrics.port is not a port"},
		"garden":          {cellJob(t), func(p m) { p["garden"] = "/run/garden/garden.sock" }, `garden is "/run/garden/garden.sock": want HOST:PORT or`},
		"half of a client": {
			cellJob(t), func(p m) { p["client"] = m{"certificate": "x"} }, "client has no private_key",
		},
		"fleet without an authority": {
			cellJob(t), func(p m) { p["fleet"] = m{"tls": m{"certificate": "x", "private_key": "y"}} }, "fleet.tls has no ca",
		},
		"fleet's port":        {cellJob(t), func(p m) { p["fleet"] = m{"port": 0} }, "fleet.port is not a port"},
		"no client":           {&instance{job: "rootstock-cell", properties: m{}, link: exclusive}, func(m) {}, "client is empty, and rootstock-stratum0 has tls.client_ca"},
		"client's http":       {stratum0(t), func(p m) { p["tls"] = m{"client_ca": "x"} }, "tls.client_ca needs tls.certificate"},
		"wishes":              {gardenJob(), func(p m) { p["wishes"] = m{"url": "publisher"} }, `wishes.url is "publisher", no http or https URL`},
		"publish without tls": {stratum0(t), func(p m) { p["publish"] = m{"allow": []any{"docker.io"}} }, "publish.allow needs tls.certificate"},
		"publish for everybody": {stratum0(t), func(p m) {
			merge(p, m{"publish": m{"allow": []any{"docker.io"}}, "tls": m{"certificate": "x", "private_key": "y"}})
		}, "publish.allow needs publish.tokens or tls.client_ca"},
		"port twice":      {stratum0(t), func(p m) { merge(p, m{"publish": m{"allow": []any{"docker.io"}, "port": 8000}, "tls": mutual(t)}) }, "publish.port is that of port"},
		"token":           {stratum0(t), func(p m) { p["publish"] = m{"tokens": []any{"short"}} }, "publish.tokens has one that is no word of at least 16 bytes"},
		"wishlist":        {stratum0(t), func(p m) { p["sync"] = m{"wishlist": m{"image": []any{}}} }, "sync.wishlist has image, which is not known"},
		"interval":        {stratum0(t), func(p m) { p["sync"] = m{"interval": "daily"} }, "sync.interval is not a time such as 10m"},
		"registry":        {stratum0(t), func(p m) { p["registries"] = m{"r": m{"user": "u"}} }, "registries.r has user, which is not known"},
		"half of a login": {stratum0(t), func(p m) { p["registries"] = m{"r": m{"username": "u"}} }, "registries.r needs both username and password"},
		"label":           {cellJob(t), func(p m) { p["labels"] = m{"zone": "z 1"} }, `labels.zone is "z 1": use letters`},
		"id mapping":      {cellJob(t), func(p m) { p["id_mapping"] = "host" }, `id_mapping is "host", not one of`},
		"drain":           {cellJob(t), func(p m) { p["drain"] = m{"timeout": "10m"} }, "drain.timeout is not a number of seconds"},
		"half of droplet": {gardenJob(), func(p m) { p["droplets"] = m{"certificate": "x"} }, "droplets needs both certificate and private_key"},
		"stack":           {gardenJob(), func(p m) { p["stacks"] = m{"s": "/var/x.tar"} }, `stacks.s is "/var/x.tar", not a URI such as cvmfs://`},
		"log level":       {gardenJob(), func(p m) { p["log_level"] = "all" }, `log_level is "all"`},
	} {
		tc.change(tc.job.properties)
		if err := tc.job.render(t, t.TempDir()); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var property = regexp.MustCompile(`\bp\('([a-z0-9_.]+)'`)

// Jobs are described: each property has a type and a description, those that
// need no value a default, and no property, template or link is there for
// nothing.
func TestSpecs(t *testing.T) {
	t.Parallel()
	types := []string{"string", "integer", "boolean", "array", "hash", "certificate", "rsa"}
	for _, job := range names(t, release+"/jobs") {
		s := jobSpecOf(t, job)
		dir := filepath.Join(release, "jobs", job)
		used := map[string]bool{}
		for _, match := range property.FindAllStringSubmatch(read(t, dir+"/monit"), -1) {
			used[match[1]] = true
		}
		for source, to := range s.Templates {
			text := read(t, filepath.Join(dir, "templates", source))
			if strings.Contains(text, "<%") != strings.HasSuffix(source, ".erb") || strings.HasPrefix(to, "bin/") && strings.HasSuffix(source, ".erb") {
				t.Errorf("%s: %s: ERB is for configuration, and called so", job, source)
			}
			for _, match := range property.FindAllStringSubmatch(strings.ReplaceAll(text, "stratum0.p(", "link("), -1) {
				used[match[1]] = true
			}
		}
		for name, p := range s.Properties {
			if !slices.Contains(types, p.Type) || p.Description == "" {
				t.Errorf("%s: property %s has type %q, description %q", job, name, p.Type, p.Description)
			}
			if !used[name] {
				t.Errorf("%s: property %s does nothing", job, name)
			}
			delete(used, name)
		}
		for name := range used {
			if !isPropertyGroup(s, name) {
				t.Errorf("%s: property %s is used and not in the spec", job, name)
			}
		}
		for _, p := range s.Provides {
			for _, name := range p.Properties {
				if _, ok := s.Properties[name]; !ok {
					t.Errorf("%s: link %s has property %s, which is not in the spec", job, p.Name, name)
				}
			}
		}
		sources := slices.Sorted(maps.Keys(s.Templates))
		var there []string
		for _, folder := range names(t, filepath.Join(dir, "templates")) {
			for _, f := range names(t, filepath.Join(dir, "templates", folder)) {
				there = append(there, folder+"/"+f)
			}
		}
		if s.Name != job || s.Description == "" || !slices.Equal(sources, there) {
			t.Errorf("%s: spec has templates %v, there are %v", job, sources, there)
		}
		for _, p := range s.Packages {
			if _, err := os.Stat(filepath.Join(release, "packages", p, "spec")); err != nil {
				t.Error(err)
			}
		}
	}
	// One text, two configurations.
	dir := release + "/jobs/rootstock-garden/templates/config/"
	if strings.Replace(read(t, dir+"unprivileged.json.erb"), "privileged = false", "privileged = true", 1) != read(t, dir+"privileged.json.erb") {
		t.Error("the plugin's two configurations differ in more than one line")
	}
}

// isPropertyGroup reports whether a name stands for all properties below it.
func isPropertyGroup(s jobSpec, name string) bool {
	for p := range s.Properties {
		if strings.HasPrefix(p, name+".") {
			return true
		}
	}
	return false
}
