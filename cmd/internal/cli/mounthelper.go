package cli

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// defaultConfig is where stock clients are configured.
const defaultConfig = "/etc/cvmfs"

func newMountHelper(name string) *cobra.Command {
	var options, namespace, fsType string
	var sloppy, fake, noMtab, verbose bool
	cmd := &cobra.Command{
		Use:   name + " FQRN MOUNTPOINT [-o OPTIONS]",
		Short: "What mount -t rootstock FQRN MOUNTPOINT calls, as /sbin/" + helperName,
		Long: `Mount a repository as a stock client's configuration says, in the background.
Install it as a link: ln -s rootstock-cell /sbin/` + helperName + `. Then
"mount -t rootstock FQRN MOUNTPOINT", lines of /etc/fstab and autofs maps work.

Options: config=DIR (default ` + defaultConfig + `), cache=DIR, tag=T, date=D, root-hash=H,
socket=FILE, log=FILE, blacklist=FILE, nosuid, nodev, noexec.`,
		Args: exactArgs("FQRN", "MOUNTPOINT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := parseMountOptions(options, sloppy)
			if err != nil {
				return misuse(cmd, "-o: %w", err)
			}
			if namespace != "" {
				return misuse(cmd, "-N %s: mounting in another namespace is not supported; use nsenter", namespace)
			}
			if o.remount || fake {
				return nil // nothing a mounted repository could change
			}
			return o.mount(cmd, args[0], args[1])
		},
	}
	cmd.Flags().StringVarP(&options, "options", "o", "", "mount options, separated by commas")
	cmd.Flags().StringVarP(&namespace, "namespace", "N", "", "not supported")
	cmd.Flags().StringVarP(&fsType, "types", "t", "", "ignored")
	cmd.Flags().BoolVarP(&sloppy, "sloppy", "s", false, "ignore options that are not known")
	cmd.Flags().BoolVarP(&fake, "fake", "f", false, "check the options and mount nothing")
	cmd.Flags().BoolVarP(&noMtab, "no-mtab", "n", false, "ignored")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "ignored")
	return cmd
}

// mountOptions are what follows -o.
type mountOptions struct {
	args    []string // of the mount command
	config  string
	flags   uintptr // MS_NOSUID and its like
	remount bool
}

// Options of mount(8) and of stock mounts that ask for nothing we do not do
// anyway, and those that become flags of the mount command.
var (
	noOptions = map[string]bool{
		"": true, "ro": true, "rw": true, "defaults": true, "auto": true, "noauto": true, "user": true, "users": true,
		"nouser": true, "owner": true, "group": true, "_netdev": true, "nofail": true, "suid": true, "dev": true, "exec": true,
		"async": true, "atime": true, "noatime": true, "relatime": true, "allow_other": true, "default_permissions": true,
		"system_mount": true, "grab_mountpoint": true,
	}
	mountFlagOptions = map[string]bool{
		"cache": true, "tag": true, "date": true, "root-hash": true, "socket": true, "log": true, "blacklist": true,
	}
	kernelFlags = map[string]uintptr{"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC}
)

func parseMountOptions(text string, sloppy bool) (mountOptions, error) {
	o := mountOptions{config: defaultConfig}
	for option := range strings.SplitSeq(text, ",") {
		key, value, hasValue := strings.Cut(option, "=")
		switch {
		case noOptions[option] || strings.HasPrefix(key, "x-") || key == "comment" || key == "uid" || key == "gid" || key == "fsname":
		case option == "remount":
			o.remount = true
		case kernelFlags[option] != 0:
			o.flags |= kernelFlags[option]
		case (key == "config" || mountFlagOptions[key]) && value == "":
			return o, fmt.Errorf("%s needs a value", key)
		case key == "config":
			o.config = value
		case mountFlagOptions[key] && hasValue:
			o.args = append(o.args, "--"+key+"="+value)
		case !sloppy:
			return o, fmt.Errorf("unknown option %q (mount -s ignores such)", option)
		}
	}
	return o, nil
}

// mount has another process serve the repository. Some versions of mount(8)
// make a path of the name, autofs puts a colon before it.
func (o mountOptions) mount(cmd *cobra.Command, device, mountpoint string) error {
	name := strings.TrimPrefix(filepath.Base(device), ":")
	abs, err := filepath.Abs(mountpoint)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	args := append([]string{"mount", "--" + configFlag + "=" + o.config}, o.args...)
	// Behind --, neither name nor path can pass for a flag.
	if err := mountInBackground(cmd, append(args, "--", name, abs)); err != nil {
		return err
	}
	if o.flags == 0 {
		return nil
	}
	if err := unix.Mount("", abs, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|o.flags, ""); err != nil {
		unix.Unmount(abs, unix.MNT_DETACH) //nolint:errcheck // it must not stay without its flags
		return fmt.Errorf("mount %s: set nosuid, nodev or noexec: %w", name, err)
	}
	return nil
}
