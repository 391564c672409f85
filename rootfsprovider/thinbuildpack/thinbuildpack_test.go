package thinbuildpack_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/thinbuildpack"
)

func descriptor(t *testing.T, ref string) thinbuildpack.Descriptor {
	t.Helper()
	r, err := reference.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	return thinbuildpack.Descriptor{
		Ref: r, Mount: "/buildpacks/ruby", Has: []string{"release", "detect", "supply", "finalize"},
		Version: "1.2.3", Language: "ruby", Stack: "cflinuxfs4",
	}
}

const ruby = "cvmfs://r.example.org/buildpacks/ruby"

func TestWrite(t *testing.T) {
	d := descriptor(t, ruby+":stable")
	file := filepath.Join(t.TempDir(), "thin.zip")
	if err := thinbuildpack.WriteFile(file, d); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := thinbuildpack.Write(&again, d); err != nil || !bytes.Equal(b, again.Bytes()) {
		t.Errorf("not the same bytes again: %v", err)
	}
	if len(b) > 16<<10 {
		t.Errorf("%d bytes are not a few kilobytes", len(b))
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range z.File {
		text := ""
		if !strings.HasPrefix(f.Name, "bin/") {
			in, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			all, err := io.ReadAll(in)
			if err != nil {
				t.Fatal(err)
			}
			text = string(all)
		}
		got = append(got, f.Mode().String()+" "+f.Name+" "+text)
	}
	want := []string{
		"drwxr-xr-x bin/ ", "-rwxr-xr-x bin/detect ", "-rwxr-xr-x bin/supply ", "-rwxr-xr-x bin/finalize ", "-rwxr-xr-x bin/release ",
		"-rw-r--r-- VERSION 1.2.3\n", "-rw-r--r-- manifest.yml ---\nlanguage: ruby\nstack: cflinuxfs4\n",
		`-rw-r--r-- rootstock.json {"format":1,"reference":"` + ruby + `:stable","mount":"/buildpacks/ruby"}` + "\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*thinbuildpack.Descriptor)
		want   string
	}{
		"no repository":   {func(d *thinbuildpack.Descriptor) { d.Ref.Repository = "" }, "names a repository"},
		"a rootfs":        {func(d *thinbuildpack.Descriptor) { d.Ref.Kind = reference.Rootfs }, "and a buildpack"},
		"relative mount":  {func(d *thinbuildpack.Descriptor) { d.Mount = "x" }, "absolute path"},
		"climbing mount":  {func(d *thinbuildpack.Descriptor) { d.Mount = "/a/../b" }, "clean"},
		"mount of quotes": {func(d *thinbuildpack.Descriptor) { d.Mount = "/a'$(reboot)'" }, "absolute path"},
		"climbing dir":    {func(d *thinbuildpack.Descriptor) { d.Dir = ".." }, "own directory"},
		"dir of quotes":   {func(d *thinbuildpack.Descriptor) { d.Dir = "a b" }, "own directory"},
		"version":         {func(d *thinbuildpack.Descriptor) { d.Version = "1'; reboot" }, "no version"},
		"other script":    {func(d *thinbuildpack.Descriptor) { d.Has = append(d.Has, "install") }, "install"},
		"no script":       {func(d *thinbuildpack.Descriptor) { d.Has = []string{"detect", "release"} }, "no buildpack"},
	} {
		d := descriptor(t, ruby)
		c.change(&d)
		file := filepath.Join(t.TempDir(), "thin.zip")
		if err := thinbuildpack.WriteFile(file, d); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

// The scripts run the real ones with their arguments and exit code, or say what
// is missing on standard error and nothing on standard output.
func TestScripts(t *testing.T) {
	full := []string{"detect", "supply", "finalize", "release"}
	for name, c := range map[string]struct {
		ref  string
		dir  string
		has  []string // of what is mounted; nil for no mount
		text string   // its VERSION
		run  string
		want string // of standard error; "" for success
	}{
		"runs":            {ruby + ":stable", "", full, "9\n", "supply", ""},
		"in a directory":  {ruby + "@7", "ruby-1.2", full, "1.2.3\n", "supply", ""},
		"pinned":          {ruby + "@7", "", full, " 1.2.3", "release", ""},
		"nothing mounted": {ruby + ":stable", "", nil, "", "detect", "no buildpack is mounted at "},
		"empty mount":     {ruby + ":stable", "", []string{}, "", "supply", "\"handles\" that fits this staging container"},
		"other version":   {ruby + "@7", "", full, "1.2.4\n", "supply", "version 1.2.4 is mounted at "},
		"no version":      {ruby + "@7", "", full, "", "supply", "version (none) is mounted"},
		"no finalize":     {ruby + ":stable", "", []string{"detect", "supply", "compile"}, "9\n", "supply", "bin/finalize: yes then, no now"},
		"no release":      {ruby + ":stable", "", []string{"detect", "supply", "finalize"}, "9\n", "release", "no such script"},
		"compile too":     {ruby + ":stable", "", append([]string{"compile"}, full...), "9\n", "finalize", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := descriptor(t, c.ref)
			d.Mount, d.Dir = dir+"/mount", c.dir
			if c.has != nil {
				bin := filepath.Join(d.Mount, c.dir, "bin")
				if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
					t.Fatal(err)
				}
				for _, s := range c.has {
					text := "#!/bin/sh\necho \"$0 $#:$1:$2\"\nexit 7\n"
					if err := errors.Join(os.MkdirAll(bin, 0o755), os.WriteFile(filepath.Join(bin, s), []byte(text), 0o755)); err != nil {
						t.Fatal(err)
					}
				}
				if c.text != "" {
					if err := os.WriteFile(filepath.Join(d.Mount, c.dir, "VERSION"), []byte(c.text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			var b bytes.Buffer
			if err := thinbuildpack.Write(&b, d); err != nil {
				t.Fatal(err)
			}
			z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
			if err != nil {
				t.Fatal(err)
			}
			in, err := z.Open("bin/" + c.run)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(in)
			if err == nil {
				err = os.WriteFile(dir+"/script", text, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(dir+"/script", "an argument", "second") // #nosec G204
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			err = cmd.Run()
			code := cmd.ProcessState.ExitCode()
			if c.want == "" {
				if code != 7 || out.String() != filepath.Join(d.Mount, c.dir, "bin", c.run)+" 2:an argument:second\n" || errs.Len() > 0 {
					t.Errorf("%v: %q %q", err, out.String(), errs.String())
				}
				return
			}
			if code != 1 || out.Len() > 0 || !strings.Contains(errs.String(), c.want) || !strings.Contains(errs.String(), d.Ref.String()) {
				t.Errorf("%v: %q %q, want %q", err, out.String(), errs.String(), c.want)
			}
		})
	}
}
