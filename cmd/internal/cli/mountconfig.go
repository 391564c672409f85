package cli

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell/cvmfsconfig"
	"github.com/rootstock-cf/rootstock/client"
)

// configFlag names the directory of a stock client's configuration.
const configFlag = "cvmfs-config"

// fromConfig takes from the files in dir what flags do not say.
func (f *mountFlags) fromConfig(cmd *cobra.Command, dir string) error {
	if f.Name == "" {
		return misuse(cmd, "which repository? give FQRN before MOUNTPOINT, or --name")
	}
	c, err := cvmfsconfig.Read(dir, f.Name)
	if err != nil {
		return err
	}
	s, err := c.Settings()
	if err != nil {
		return err
	}
	for _, n := range c.Notes {
		f.Log.Warn(n)
	}
	if len(s.Unknown) > 0 {
		f.Log.Warn("unknown parameters in the configuration; they only serve as variables of symbolic links",
			"repository", s.Name, "parameters", strings.Join(s.Unknown, ", "))
	}
	if len(s.Unused) > 0 {
		f.Log.Info("parameters of the stock client that have no effect here", "repository", s.Name, "parameters", strings.Join(s.Unused, ", "))
	}
	changed := cmd.Flags().Changed
	f.Name, f.Network = s.Name, s.Network
	if !changed("url") {
		f.Servers = s.Servers
	}
	if !changed("proxy") {
		f.Proxies = s.Network.Proxies
	} else {
		f.Network.FallbackProxies = ""
	}
	if !changed("key") {
		f.keys = s.PublicKeys
	}
	if !changed("cache") {
		f.CacheDir = s.CacheDir
	}
	if !changed("quota") {
		f.Quota = s.Quota
	}
	if !changed("external-url") {
		f.External, f.ExternalProxies = s.External, s.ExternalProxy
	}
	if !changed("blacklist") {
		f.Blacklist = s.Blacklist
	}
	if !changed("tag") && !changed("date") && !changed("root-hash") {
		f.Tag, f.Date, f.RootHash = s.Tag, s.Date, s.RootHash
	}
	f.FollowTTL, f.MaxTTL, f.Still = !changed("refresh"), s.MaxTTL, !s.AutoUpdate
	if s.ClaimOwnership {
		f.Owner = &client.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())} // #nosec G115 -- the kernel's are 32 bits
	}
	f.Getenv = func(name string) (string, bool) {
		if v, ok := c.Lookup(name); ok {
			return v, true
		}
		return os.LookupEnv(name)
	}
	return nil
}
