package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rootstock-cf/rootstock/publisher/source"
)

// imageFlags say how images are fetched.
type imageFlags struct {
	o             source.Options
	passwordStdin bool
	mirrors       []string
}

func (i *imageFlags) add(p *pflag.FlagSet) {
	p.StringVar(&i.o.Platform, "platform", "linux/amd64", "which image of a multi-platform index: OS/ARCH[/VARIANT]")
	p.StringVar(&i.o.Username, "username", "", "for the registry (default: docker's and podman's own configuration)")
	p.BoolVar(&i.passwordStdin, "password-stdin", false, "read the registry's password from standard input")
	p.StringSliceVar(&i.o.PlainHTTP, "plain-http", nil, "HOST[:PORT] of a registry that may be spoken to without TLS")
	p.StringSliceVar(&i.mirrors, "mirror", nil, "[REGISTRY=]HOST[:PORT][/PREFIX] to ask before REGISTRY (default docker.io); may be repeated")
	p.IntVar(&i.o.Retries, "retries", 3, "how often a request that failed with 5xx, 429 or a lost connection is made again; -1 for never")
}

// options reads what the flags name.
func (i *imageFlags) options(cmd *cobra.Command, temp string) (source.Options, error) {
	o := i.o
	o.TempDir = temp
	if o.Retries == 0 {
		o.Retries = -1 // Options' 0 is its default
	}
	for _, text := range i.mirrors {
		m, err := source.ParseMirror(text)
		if err != nil {
			return o, misuse(cmd, "--mirror: %w", err)
		}
		o.Mirrors = append(o.Mirrors, m)
	}
	if i.passwordStdin {
		if o.Username == "" {
			return o, misuse(cmd, "--password-stdin needs --username")
		}
		line, err := readPassword(cmd.InOrStdin())
		if err != nil {
			return o, err
		}
		o.Password = line
	}
	return o, nil
}

func readPassword(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
