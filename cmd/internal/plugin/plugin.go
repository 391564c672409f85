// Package plugin is the command line of rootstock-plugin. Its standard output
// is for Garden: the document on success, one line that users see on failure,
// nothing else. Its standard error is for Garden's log, as lager lines. The
// arguments are never logged: they may hold a password.
package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cmd/internal/lager"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
)

// source names the program in log lines.
const source = "rootstock-plugin"

// maxMessage bounds the line that users see, in bytes.
const maxMessage = 4 << 10

// Run does what args, without the program's name, say, and returns the exit
// code: 0 or 1.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	log := slog.New(lager.New(stderr, source, slog.LevelInfo))
	command := "start"
	doc, err := func() (any, error) {
		c, err := parseArgs(args)
		if err != nil {
			return nil, err
		}
		command = c.command
		conf, err := config(c.config)
		if err != nil {
			return nil, err
		}
		level, err := conf.Level()
		if err != nil {
			return nil, err
		}
		log = slog.New(lager.New(stderr, source, level))
		p := rootfsprovider.New(conf, &control.Client{Socket: conf.Socket}, log)
		doc, err := run(ctx, c, p)
		if c.command == "create" && err == nil && p.PoolWanting() {
			background(log, c.config)
		}
		return doc, err
	}()
	if err == nil && doc != nil {
		err = printDocument(stdout, doc)
	}
	if err == nil {
		return 0
	}
	line := oneLine(err)
	log.Error(command+"-failed", "error", line)
	fmt.Fprintln(stdout, line) //nolint:errcheck // the exit code says it as well
	return 1
}

func config(path string) (rootfsprovider.Config, error) {
	if path == "" {
		return rootfsprovider.ParseConfig([]byte("{}"))
	}
	return rootfsprovider.ReadConfig(path)
}

// run returns the document to print, nil for none.
func run(ctx context.Context, c call, p *rootfsprovider.Provider) (any, error) {
	switch c.command {
	case "create":
		return p.Create(ctx, rootfsprovider.Request{
			URI: c.uri, Handle: c.handle, DiskLimit: c.diskLimit, ExcludeImage: c.excludeImage,
			Username: c.username, Password: c.password,
		})
	case "delete":
		return nil, p.Delete(ctx, c.handle)
	case "stats":
		return p.Stats(ctx, c.handle)
	case "capacity":
		return p.Capacity()
	case "thin-tars":
		written, err := p.WriteThinTars(c.handle)
		if err != nil {
			return nil, err
		}
		return struct {
			Stacks []string `json:"stacks"`
		}{append([]string{}, written...)}, nil
	case fillPool:
		return nil, p.FillPool(ctx)
	}
	cleaned, err := p.GC(ctx)
	if err != nil {
		return nil, err
	}
	return struct {
		Cleaned []string `json:"cleaned"`
	}{append([]string{}, cleaned...)}, nil
}

// background starts the plugin once more, for what nobody should wait for.
func background(log *slog.Logger, config string) {
	args := []string{fillPool}
	if config != "" {
		args = append(args, "--config", config)
	}
	self, err := os.Executable()
	if err == nil {
		cmd := exec.CommandContext(context.Background(), self, args...) // #nosec G204 -- ourselves, and it outlives us
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		err = cmd.Start()
	}
	if err != nil {
		log.Error("filling the pool of write layers", "error", err.Error())
	}
}

func printDocument(w io.Writer, doc any) error {
	text, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("document: %w", err)
	}
	if _, err := w.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// oneLine words an error for users: Garden shows the line as it is.
func oneLine(err error) string {
	line := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	line = strings.ToValidUTF8(line, "�")
	if len(line) > maxMessage {
		line = strings.ToValidUTF8(line[:maxMessage], "") + "…"
	}
	return line
}
