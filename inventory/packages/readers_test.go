package packages_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const debianStatus = `Package: openssl
Status: install ok installed
Architecture: amd64
Version: 3.0.2-0ubuntu1.17
Description: with a continuation
 Package: not-a-package
 .

Package: libssl3
Status: hold ok installed
Architecture: amd64
Source: openssl
Version: 3.0.2-0ubuntu1.17

Package: libgcc-s1
Status: install ok installed
Source: gcc-12 (12.2.0-14)
Version: 12.2.0-14+b1

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: never
Status: unknown ok not-installed
`

func TestReaders(t *testing.T) {
	inner := archive(t, "META-INF/maven/org.yaml/snakeyaml/pom.properties", pom("org.yaml", "snakeyaml", "1.33"))
	for _, c := range []struct {
		name       string
		tree       tree
		want, gaps []string
	}{
		{"dpkg", tree{
			"var/lib/dpkg/status": debianStatus,
			"usr/lib/os-release":  "ID=ubuntu\nVERSION_ID=\"22.04\"\nPRETTY_NAME='Ubuntu 22.04.5 LTS'\n",
		}, []string{
			"pkg:deb/ubuntu/libgcc-s1@12.2.0-14%2Bb1?distro=ubuntu-22.04 var/lib/dpkg/status gcc-12 12.2.0-14",
			"pkg:deb/ubuntu/libssl3@3.0.2-0ubuntu1.17?arch=amd64&distro=ubuntu-22.04 var/lib/dpkg/status openssl",
			"pkg:deb/ubuntu/openssl@3.0.2-0ubuntu1.17?arch=amd64&distro=ubuntu-22.04 var/lib/dpkg/status",
		}, nil},
		{"status.d, without dpkg", tree{
			"var/lib/dpkg/status.d/base":         "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n",
			"var/lib/dpkg/status.d/base.md5sums": "d41d8cd98f00b204e9800998ecf8427e  Version: 1\n",
			"etc/os-release":                     "ID=debian\n",
		}, []string{"pkg:deb/debian/base-files@12.4?arch=amd64 var/lib/dpkg/status.d/base"}, nil},
		{"apk", tree{
			"lib/apk/db/installed": "C:Q1abc=\nP:libssl3\nV:3.1.4-r5\nA:x86_64\nL:Apache-2.0\no:openssl\nF:lib\nR:libssl.so.3\n\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\n",
			"etc/os-release":       "ID=alpine\nVERSION_ID=3.18.4\n",
		}, []string{
			"pkg:apk/alpine/libssl3@3.1.4-r5?arch=x86_64&distro=alpine-3.18.4 lib/apk/db/installed openssl Apache-2.0",
			"pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.18.4 lib/apk/db/installed MIT",
		}, nil},
		{
			"rpm says it is not read",
			tree{"var/lib/rpm/rpmdb.sqlite": "SQLite format 3"},
			nil,
			[]string{"rpm var/lib/rpm/rpmdb.sqlite: this format is not read"},
		},
		{"buildpack", tree{
			"manifest.yml": `
language: nodejs
dependencies:
- name: node
  version: 20.11.0
  uri: https://buildpacks.cloudfoundry.org/node.tgz
  sha256: DA6C17F3C6A6B8C7E5C9B8A7D6E5F4C3B2A190807060504030201000FFEEDDCC
  cf_stacks: [cflinuxfs4, cflinuxfs3]
- name: yarn
  version: 1.22.19
  file: dependencies/abc/yarn.tgz
- name: python
  version: 3.11.7
  file: dependencies/def/not-there.tgz
`,
			"dependencies/abc/yarn.tgz": "x",
		}, []string{
			"pkg:generic/node@20.11.0?checksum=sha256:da6c17f3c6a6b8c7e5c9b8a7d6e5f4c3b2a190807060504030201000ffeeddcc manifest.yml cflinuxfs4+cflinuxfs3",
			"pkg:generic/python@3.11.7 manifest.yml",
			"pkg:generic/yarn@1.22.19 dependencies/abc/yarn.tgz",
		}, nil},
		{"an app's manifest is no buildpack's", tree{"manifest.yml": "applications:\n- name: x\n"}, nil, nil},
		{"npm", tree{
			"app/node_modules/bcrypt/package.json":                  `{"name":"bcrypt","version":"4.0.1","license":"MIT"}`,
			"app/node_modules/@babel/core/package.json":             `{"name":"@babel/core","version":"7.1.0","licenses":[{"type":"MIT"}]}`,
			"app/node_modules/bcrypt/node_modules/nan/package.json": `{"name":"nan","version":"2.14.0","license":{"type":"ISC"}}`,
			"app/node_modules/bcrypt/lib/package.json":              `{"name":"no","version":"1.0.0"}`,
			"app/node_modules/bcrypt/esm/package.json":              `{"type":"module"}`,
			"app/node_modules/.bin/package.json":                    `{"name":"no","version":"1.0.0"}`,
			"app/package.json":                                      `{"name":"the-app","version":"1.0.0"}`,
		}, []string{
			"pkg:npm/%40babel/core@7.1.0 app/node_modules/@babel/core/package.json MIT",
			"pkg:npm/bcrypt@4.0.1 app/node_modules/bcrypt/package.json MIT",
			"pkg:npm/nan@2.14.0 app/node_modules/bcrypt/node_modules/nan/package.json ISC",
		}, nil},
		{"python", tree{
			"usr/lib/python3/dist-packages/PyYAML-6.0.dist-info/METADATA": "Metadata-Version: 2.4\nName: Py_YAML\nVersion: 6.0\nLicense: old\nLicense-Expression: MIT\n\nName: no\n",
			"usr/lib/python3/dist-packages/numpy.egg-info/PKG-INFO":       "Name: numpy\nVersion: 1.24.2\nLicense: UNKNOWN\n",
			"usr/lib/python3/dist-packages/six-1.16.0.egg-info":           "Name: six\nVersion: 1.16.0\n",
		}, []string{
			"pkg:pypi/py-yaml@6.0 usr/lib/python3/dist-packages/PyYAML-6.0.dist-info/METADATA MIT",
			"pkg:pypi/numpy@1.24.2 usr/lib/python3/dist-packages/numpy.egg-info/PKG-INFO",
			"pkg:pypi/six@1.16.0 usr/lib/python3/dist-packages/six-1.16.0.egg-info",
		}, nil},
		{"ruby", tree{
			"gems/specifications/rake-13.0.6.gemspec":        "# -*- encoding: utf-8 -*-\n# stub: rake 13.0.6 ruby lib\n\nGem::Specification.new do |s|\n  s.name = \"no\"\n  s.licenses = [\"MIT\".freeze, \"Ruby\".freeze]\nend\n",
			"gems/specifications/default/json-2.6.1.gemspec": "Gem::Specification.new do |s|\n  s.name = \"json\".freeze\n  s.version = Gem::Version.new('2.6.1')\n  s.license = 'Ruby'\nend\n",
			"gems/gems/rake-13.0.6/rake.gemspec":             "# stub: no 1 ruby lib\n",
		}, []string{
			"pkg:gem/json@2.6.1 gems/specifications/default/json-2.6.1.gemspec Ruby",
			"pkg:gem/rake@13.0.6 gems/specifications/rake-13.0.6.gemspec MIT OR Ruby",
		}, nil},
		{"java, nested", tree{
			"app/app.WAR": archive(t,
				"META-INF/maven/com.example/app/pom.properties", pom("com.example", "app", "1.0"),
				"WEB-INF/lib/snakeyaml.jar", inner,
				"WEB-INF/lib/again.jar", inner),
		}, []string{
			"pkg:maven/com.example/app@1.0 app/app.WAR!/META-INF/maven/com.example/app/pom.properties",
			"pkg:maven/org.yaml/snakeyaml@1.33 app/app.WAR!/WEB-INF/lib/again.jar!/META-INF/maven/org.yaml/snakeyaml/pom.properties",
			"pkg:maven/org.yaml/snakeyaml@1.33 app/app.WAR!/WEB-INF/lib/snakeyaml.jar!/META-INF/maven/org.yaml/snakeyaml/pom.properties",
		}, nil},
		{"receipt", tree{
			"receipt.cflinuxfs4.x86_64": receiptText,
		}, []string{"pkg:deb/debian/libacl1@2.3.1-1?arch=amd64 receipt.cflinuxfs4.x86_64"}, nil},
		{"the database is better than the receipt", tree{
			"cflinuxfs4/receipt":  receiptText,
			"var/lib/dpkg/status": "Package: libacl1\nVersion: 2.3.1-1\nSource: acl\n",
		}, []string{"pkg:deb/debian/libacl1@2.3.1-1 var/lib/dpkg/status acl"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := c.tree.inventory()
			if d := cmp.Diff(append([]string{}, c.want...), said(v), sorted); d != "" {
				t.Errorf("packages (-want +got):\n%s", d)
			}
			if d := cmp.Diff(append([]string{}, c.gaps...), gaps(v)); d != "" {
				t.Errorf("gaps (-want +got):\n%s", d)
			}
		})
	}
}

const receiptText = `Rootfs SHASUM: 324763b643058f27a95fbfbfd0c14e5805393d6bd66e3d092db23e01b775c2c3

Desired=Unknown/Install/Remove/Purge/Hold
| Status=Not/Inst/Conf-files/Unpacked/halF-conf/Half-inst/trig-aWait/Trig-pend
||/ Name          Version     Architecture Description
+++-=============-===========-============-===========
ii  libacl1:amd64 2.3.1-1     amd64        access control list - shared library
rc  old           1.0         amd64        removed, configuration remains
`

func TestHostileFiles(t *testing.T) {
	bomb := archive(t, "a.jar", strings.Repeat("\x00", 40<<20))
	deep := archive(t, "META-INF/maven/g/a/pom.properties", pom("g", "a", "1"))
	for range 4 {
		deep = archive(t, "in.jar", deep)
	}
	for name, c := range map[string]struct {
		tree tree
		gap  string
	}{
		"control characters":    {tree{"var/lib/dpkg/status": "Package: a\x1b[31m\nVersion: 1\n"}, "name or version"},
		"in a manifest":         {tree{"manifest.yml": "language: ruby\ndependencies: [{name: \"a\\x1b[31m\", version: 1.0.0}]\n"}, "name or version"},
		"in package.json":       {tree{"node_modules/a/package.json": "{\"name\":\"a\\u0007\",\"version\":\"1\"}"}, "name or version"},
		"of a buildpack":        {tree{"deps/0/config.yml": "name: \"a\\x1b[31m\"\nversion: 1.0.0\n"}, "name or version"},
		"of what was detected":  {tree{"staging_info.yml": "detected_buildpack: \"a=1\\u202e\"\n"}, "name or version"},
		"too many words":        {tree{"staging_info.yml": "detected_buildpack: \"" + strings.Repeat("x ", 300) + "\"\n"}, "name or version"},
		"no version":            {tree{"lib/apk/db/installed": "P:musl\n"}, "name or version"},
		"endless name":          {tree{"a.egg-info": "Name: " + strings.Repeat("a", 600) + "\nVersion: 1\n"}, "name or version"},
		"not UTF-8":             {tree{"node_modules/a/package.json": "{\"name\":\"a\",\"version\":\"\\ud800\xff\",\"x\":"}, "JSON"},
		"bad yaml":              {tree{"manifest.yml": "dependencies: {a"}, "yaml"},
		"alias bomb":            {tree{"manifest.yml": aliasBomb}, "yaml"},
		"manifest too large":    {tree{"manifest.yml": strings.Repeat("#", 1<<20+1)}, "more than the"},
		"not a zip":             {tree{"a.jar": "PK\x03\x04 and nothing"}, "zip"},
		"zip bomb":              {tree{"b.jar": bomb}, "larger than"},
		"nested too deep":       {tree{"c.jar": deep}, "nested deeper"},
		"too many zip entries":  {tree{"d.jar": strings.Repeat("PK\x01\x02", 200_001)}, "more than 200000 entries"},
		"properties of nothing": {tree{"e.jar": archive(t, "META-INF/maven/a/b/pom.properties", "version=1")}, "name or version"},
		"gemspec by hand":       {tree{"specifications/a.gemspec": "Gem::Specification.new { |s| s.name = NAME }"}, "RubyGems"},
	} {
		t.Run(name, func(t *testing.T) {
			v := c.tree.inventory()
			if len(v.Packages) != 0 {
				t.Errorf("packages: %v", said(v))
			}
			if g := gaps(v); len(g) != 1 || !strings.Contains(g[0], c.gap) {
				t.Errorf("gaps: %q, want one that says %q", g, c.gap)
			}
		})
	}
}

const aliasBomb = `
a: &a [x,x,x,x,x,x,x,x,x,x]
b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]
c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]
d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]
e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]
dependencies: [{name: *e, version: *e}]
`
