package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rootstock-cf/rootstock/rootfsprovider/ociimage"
)

// fetcherName is the program beside the plugin that fetches layers. It is not
// the plugin itself: linking an HTTP client costs each of its processes more
// than a tenth of its time.
const fetcherName = "rootstock-cell"

// droplet fetches a layer and unpacks it as it comes into the container, whose
// root is mounted: what it takes is the container's, under its limit.
func (p *Provider) droplet(ctx context.Context, handle string, l *ociimage.Layer) error {
	program := p.conf.Droplets.Fetcher
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("droplet: %w", err)
		}
		program = filepath.Join(filepath.Dir(self), fetcherName)
	}
	// Ends the program when the layer turns out to be wrong half-way.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args := []string{"fetch-layer", "--size", strconv.FormatInt(l.Size, 10), "--digest", l.Digest, "--socket", p.conf.Socket}
	for flag, value := range map[string]string{
		"--cert": p.conf.Droplets.Certificate, "--cert-key": p.conf.Droplets.Key, "--ca": p.conf.Droplets.CA,
	} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	cmd := exec.CommandContext(ctx, program, args...)
	// URLs may be signed: they travel where no process list shows them.
	cmd.Stdin = strings.NewReader(strings.Join(l.URLs, "\n") + "\n")
	said := &limitedBuffer{most: maxAnswer}
	cmd.Stderr = said
	cmd.WaitDelay = killDelay
	body, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("droplet: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("droplet: %w; droplets.fetcher in the plugin's configuration names the rootstock-cell program", err)
	}
	err = l.Extract(ctx, body, filepath.Join(p.store.container(handle), "rootfs"), p.mapping.Host)
	if err != nil {
		cancel()
	}
	if werr := cmd.Wait(); werr != nil {
		if text := strings.TrimSpace(said.String()); text != "" {
			return fmt.Errorf("droplet: %s", text)
		}
		err = errors.Join(err, werr)
	}
	if err != nil {
		return fmt.Errorf("droplet: %w", err)
	}
	return p.step("unpacked")
}
