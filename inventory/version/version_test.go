package version_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/inventory/version"
)

// ascending are lists in the order their ecosystems publish; "=" joins
// versions that are equal.
var ascending = map[version.Scheme][]string{
	version.Dpkg: { // deb-version(7)
		"0~~", "0~", "0", "1.0~~", "1.0~~a", "1.0~", "1.0~rc1-1", "1.0=1.0-0=0:1.0=01.0", "1.0-0ubuntu1.17", "1.0-0ubuntu1.18", "1.0-1",
		"1.0-1+b1", "1.0a", "1.0+git", "1.0.1", "1.2", "1.10", "2.0.7s-6", "2.0.7u-1", "3.0.2-0ubuntu1.9", "3.0.2-0ubuntu1.18",
		"20240101", "1:0.1",
	},
	version.APK: { // apk-tools' own test list
		"0.1_alpha", "0.1_alpha1", "0.1.3_alpha", "0.1.3", "1.0_alpha", "1.0_beta", "1.0_pre1", "1.0_rc1", "1.0_rc2", "1.0", "1.0-r1",
		"1.0-r2", "1.0_p1", "1.0a", "1.0b", "1.0.01", "1.0.1", "1.0.1-r3", "1.0.2", "1.2.9", "1.2.10", "3.0.12-r4", "3.1.0-r0",
	},
	version.NPM: { // semver.org 11
		"0.0.1-0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
		"1.0.0=v1.0.0=1.0.0+build.5", "1.9.0", "1.10.0", "1.11.0", "2.0.0", "2.1.0", "2.1.1", "10.0.0",
	},
	version.Go: {
		"v0.0.0-20180127040702-4e3ac2762d5f", "v0.0.0", "v1.2.3-0.20240101000000-abcdef123456", "v1.2.3=1.2.3", "1.21.0-rc.2", "1.21=1.21.0",
		"1.21.9", "1.22.0", "v2.0.0+incompatible=v2.0.0", "v29.7.2+incompatible",
	},
	version.PEP: { // PEP 440, "Summary of permitted suffixes and relative ordering"
		"1.dev0=1.0.dev", "1.0.dev456", "1.0a1=1.0-alpha.1=1.0.a1", "1.0a2.dev456", "1.0a12.dev456", "1.0a12", "1.0b1.dev456", "1.0b2", "1.0b2.post345.dev456",
		"1.0b2.post345", "1.0rc1.dev456", "1.0rc1=1.0c1=1.0-pre1", "1.0=1=v1.0=1.0.0", "1.0+abc.5", "1.0+abc.7", "1.0+5", "1.0.post456.dev34", "1.0.post456=1.0-456=1.0.r456",
		"1.0.15", "1.1.dev1", "1.1", "2!0.1",
	},
	version.Gem: { // Gem::Version's documentation
		"0.9", "1.0.a10", "1.0.b1", "1.0.b2", "1.0.b10", "1.0.pre1", "1.0.rc1", "1.0=1=1.0.0", "1.0.1.pre", "1.0.1", "1.5.0", "1.10", "2.0.a", "2.0.0.beta1", "2.0.0",
	},
	version.Maven: { // POM reference, "Version Order Specification"
		"1-alpha-1=1-a1=1.0-ALPHA-1", "1-alpha-2", "1-beta-2", "1-beta-11", "1-milestone-3=1-m3", "1-rc=1-cr", "1-rc-2", "1-SNAPSHOT",
		"1=1.0=1-ga=1.0.0=1-final=1-release", "1-sp", "1-sp-1", "1-foo", "1-1", "1-2", "1.0.1", "1.1", "1.2-beta-2", "1.2", "1.10", "2",
	},
	version.Loose: {"8.pre", "8=8.0", "8.1-rc1", "8.1", "8.1.302", "v9", "20.9.0", "20.11.0", "go21"},
}

func TestPublishedOrders(t *testing.T) {
	for scheme, groups := range ascending {
		t.Run(string(scheme), func(t *testing.T) {
			for i, a := range groups {
				for j, b := range groups {
					for x := range strings.SplitSeq(a, "=") {
						for y := range strings.SplitSeq(b, "=") {
							got, err := version.Compare(scheme, x, y)
							if err != nil {
								t.Fatal(err)
							}
							if want := min(1, max(-1, i-j)); got != want {
								t.Errorf("%q, %q: got %d, want %d", x, y, got, want)
							}
						}
					}
				}
			}
		})
	}
}

func TestInvalid(t *testing.T) {
	long := "1" + strings.Repeat(".1", version.MaxLen)
	for scheme, texts := range map[version.Scheme][]string{
		version.Dpkg:  {"", "a:1", "1.0-", ":1", "alpha", "1 0", "1.0-1_2", "99999999999:1"},
		version.APK:   {"", "a", "1.", "1.0_what", "1.0-1", "1.0-r", "1.0AB", "1.0~"},
		version.NPM:   {"", "1.2.3.4", "1.x", "latest", "1.0.0-", "1.0.0+", "1.0.0-a..b", "1.0.0-ü"},
		version.PEP:   {"", "french toast", "1.0+", "1.0+a+", "1..0"},
		version.Gem:   {"", "junk", "1..0", "1.0_1", "1.", "1-"},
		version.Maven: {"", "1 0", "1\n"},
		version.Loose: {"", "stable", "v"},
		"rpm":         {"1.0-1"},
	} {
		for _, text := range append(texts, long) {
			if v, err := version.Parse(scheme, text); !errors.Is(err, version.ErrInvalid) {
				t.Errorf("%s: %.20q: %v, %v", scheme, text, v, err)
			}
		}
	}
}

// alphabets make versions that are near each other, which is where orders err.
var alphabets = map[version.Scheme]string{
	version.Dpkg:  `([0-2]:)?[0-9]{1,2}([.+~a-bZ]{1,2}[0-9]{0,2}){0,4}(-[0-9a~+.]{1,4})?`,
	version.APK:   `[0-9]{1,2}(\.[0-9]{1,2}){0,2}[a-b]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p)[0-9]?){0,2}(-r[0-9]{1,2})?`,
	version.NPM:   `[0-2]\.[0-9]{1,2}\.[0-9](-[a-b0-9]{1,2}(\.[a-b0-9]{1,2}){0,2})?(\+[a-z])?`,
	version.Go:    `v?[0-2]\.[0-9]\.[0-9](-[a-b0-9.]?[a-b0-9])?(\+incompatible)?`,
	version.PEP:   `([01]!)?[0-2](\.[0-2]){0,2}((a|b|rc|alpha)[0-2]?)?(\.post[0-2])?(\.dev[0-2])?(\+[a-b0-9](\.[a-b0-9])?)?`,
	version.Gem:   `[0-2](\.[0-2ab]{1,2}){0,3}(-[0-2a])?`,
	version.Maven: `[0-2](\.[0-2]){0,3}([-.](alpha|beta|rc|snapshot|sp|x|a|final)([-.]?[0-2])?)?(-[0-2])?`,
	version.Loose: `[0-2](\.[0-2ab]{1,2}){0,3}(u[0-2]|_[0-2]|\+[0-2])?`,
}

func TestOrdersAreTotal(t *testing.T) {
	for scheme, form := range alphabets {
		t.Run(string(scheme), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				gen := rapid.StringMatching(form)
				three := []version.Version{}
				for _, name := range []string{"a", "b", "c"} {
					v, err := version.Parse(scheme, gen.Draw(t, name))
					if err != nil {
						t.Skip(err)
					}
					three = append(three, v)
				}
				checkTotal(t, three[0], three[1], three[2])
			})
		})
	}
}

func checkTotal(t interface {
	Helper()
	Fatalf(string, ...any)
}, a, b, c version.Version,
) {
	t.Helper()
	if a.Compare(a) != 0 {
		t.Fatalf("%s differs from itself", a)
	}
	if a.Compare(b) != -b.Compare(a) {
		t.Fatalf("%s, %s: %d one way, %d the other", a, b, a.Compare(b), b.Compare(a))
	}
	if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
		t.Fatalf("%s ≤ %s ≤ %s, but the first is greater than the last", a, b, c)
	}
	if a.Compare(b) == 0 && a.Compare(c) != b.Compare(c) {
		t.Fatalf("%s = %s, but they compare differently with %s", a, b, c)
	}
}

func TestConstraints(t *testing.T) {
	for _, c := range []struct {
		text, version string
		want          bool
	}{
		{"< 3.0.2-0ubuntu1.18", "3.0.2-0ubuntu1.17", true},
		{"< 3.0.2-0ubuntu1.18", "3.0.2-0ubuntu1.18", false},
		{"<= 3.0.2-0ubuntu1.18", "3.0.2-0ubuntu1.18", true},
		{"<<1.2", "1.1", true},
		{">= 1, < 2", "1.5", true},
		{">= 1, < 2", "2", false},
		{">= 1, < 2", "0.9", false},
		{"=1.0", "1.0-0", true},
		{"== 1.0", "1.1", false},
		{"!= 1.0", "1.1", true},
		{"> 1.0", "1.0", false},
		{">> 1.0", "1.0.1", true},
		{"", "anything", true},
	} {
		parsed, err := version.ParseConstraint(c.text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parsed.Holds(version.Dpkg, c.version)
		if err != nil || got != c.want {
			t.Errorf("%q of %q: %v, %v", c.text, c.version, got, err)
		}
		again, err := version.ParseConstraint(parsed.String())
		if err != nil || again.String() != parsed.String() {
			t.Errorf("%q reads back as %q, %v", parsed, again, err)
		}
	}
	for _, bad := range []string{"1.0", "<", "< 1 2", ">= 1,", ",", "=> 1", "< 1 < 2", "<>1"} {
		if c, err := version.ParseConstraint(bad); !errors.Is(err, version.ErrInvalid) {
			t.Errorf("%q: %v, %v", bad, c, err)
		}
	}
	c, _ := version.ParseConstraint("!= 1, < junk")
	if _, err := c.Holds(version.Dpkg, "1"); !errors.Is(err, version.ErrInvalid) {
		t.Errorf("a version of the constraint that is none: %v", err)
	}
}

func FuzzCompare(f *testing.F) {
	for _, list := range ascending {
		for _, text := range list {
			f.Add(text, "1.0")
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for scheme := range ascending {
			v, errV := version.Parse(scheme, a)
			w, errW := version.Parse(scheme, b)
			if errV == nil && errW == nil && v.Compare(w) != -w.Compare(v) {
				t.Errorf("%s: %q, %q: not antisymmetric", scheme, a, b)
			}
		}
	})
}
