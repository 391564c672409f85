package audit_test

import (
	"errors"
	"testing"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/audit"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
)

// A droplet is found with its containers, whatever tree they stand on, and one
// that was not read stands against the answer where droplets may matter.
func TestDroplets(t *testing.T) {
	base := tree("base", at("1", 1), jammy, "deb libssl3 1 openssl")
	bad := tree("sha256:bad", audit.Version{}, inventory.Distro{}, "npm bcrypt 4.0.1")
	bad.Versions, bad.Droplet = nil, true
	good := tree("sha256:good", audit.Version{}, inventory.Distro{}, "npm bcrypt 5.0.0")
	good.Versions, good.Droplet = nil, true
	unread := audit.Tree{ID: "sha256:unread", Droplet: true}
	cells := []fleet.Cell{{Name: "z1", Containers: []fleet.Container{
		{Handle: "a", Tree: "base", Droplet: "sha256:bad"},
		{Handle: "b", Tree: "base", Droplet: "sha256:good"},
		{Handle: "c", Tree: "elsewhere", Droplet: "sha256:bad"},
		{Handle: "d", Tree: "base"},
	}}, {Name: "z2", Err: errors.New("silent"), Containers: []fleet.Container{{Handle: "e", Droplet: "sha256:bad"}}}}

	r := audit.Run([]audit.Advisory{query(t, "pkg:npm/bcrypt < 5.0.0")}, []audit.Tree{base, bad, good}, cells)
	if len(r.Findings) != 1 || !r.Findings[0].Tree.Droplet || len(r.Findings[0].Containers) != 2 || len(r.Findings[0].Clean) != 0 {
		t.Fatalf("%+v", r.Findings)
	}
	if f := r.Findings[0]; f.Containers[0].Handle != "a" || f.Containers[1].Handle != "c" || r.Running != 4 {
		t.Errorf("%+v of %d", f.Containers, r.Running)
	}
	for text, complete := range map[string]bool{"pkg:deb/ubuntu/openssl < 1": true, "pkg:npm/bcrypt < 1": false, "openssl < 1": false} {
		r := audit.Run([]audit.Advisory{query(t, text)}, []audit.Tree{base, unread}, nil)
		if len(r.NotRead) != 1 || len(r.NotNoted) != 0 || r.Complete() != complete {
			t.Errorf("%s: complete %v, %+v", text, r.Complete(), r.NotRead)
		}
	}
}
