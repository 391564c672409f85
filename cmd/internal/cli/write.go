package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/reference"
)

// autoTagSpan is how long automatic tags stay by default: stock's four weeks.
const autoTagSpan = 4 * 7 * 24 * time.Hour

// flagSet takes flags: those of a command, or those it shares with its
// sub commands.
type flagSet interface {
	StringVar(p *string, name, value, usage string)
	BoolVar(p *bool, name string, value bool, usage string)
	DurationVar(p *time.Duration, name string, value time.Duration, usage string)
}

// writeFlags are those of every command that makes a revision.
type writeFlags struct {
	store, keys, temp string
	autoTag           bool
	autoTagSpan       time.Duration
	verbose           bool
}

func (f *writeFlags) add(p flagSet) {
	p.StringVar(&f.store, "store", "", "directory of the repository, or s3://BUCKET/PREFIX")
	p.StringVar(&f.keys, "keys", "", "directory of FQRN.key and FQRN.crt")
	p.StringVar(&f.temp, "tmp", "", "directory for temporary files (default the system's)")
	p.BoolVar(&f.autoTag, "auto-tag", true, "give the new revision a tag of its own, generic-TIME")
	p.DurationVar(&f.autoTagSpan, "auto-tag-timespan", autoTagSpan, "how long such tags stay")
	p.BoolVar(&f.verbose, "verbose", false, "log each stage")
}

// options opens the store and reads the keys of the repository in it.
func (f *writeFlags) options(ctx context.Context) (publisher.Options, error) {
	st, err := openStore(f.store)
	if err != nil {
		return publisher.Options{}, err
	}
	name, err := publisher.RepositoryName(ctx, st)
	if err != nil {
		return publisher.Options{}, fmt.Errorf("store %s: %w", f.store, err)
	}
	keys, err := manifest.ReadKeys(f.keys, name)
	if err != nil {
		return publisher.Options{}, err
	}
	o := publisher.Options{Store: st, Keys: keys, TempDir: f.temp, Log: stages(os.Stderr, f.verbose)}
	if f.autoTag {
		o.AutoTags = f.autoTagSpan
	}
	return o, nil
}

func (f *writeFlags) open(ctx context.Context) (*publisher.Publisher, error) {
	o, err := f.options(ctx)
	if err != nil {
		return nil, err
	}
	return publisher.Open(ctx, o)
}

// readFlags are those of every command that looks at a store.
type readFlags struct {
	store, temp string
	json        bool
}

func (f *readFlags) add(p flagSet) {
	p.StringVar(&f.store, "store", "", "directory of the repository, or s3://BUCKET/PREFIX")
	p.StringVar(&f.temp, "tmp", "", "directory for temporary files (default the system's)")
	p.BoolVar(&f.json, "json", false, "one JSON object per line")
}

// line prints v as one line of JSON.
func line(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = w.Write(append(b, '\n'))
	}
	return err
}

// typed prints v, which is a JSON object, as a line that begins with its
// message_type.
func typed(w io.Writer, messageType string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) < 2 || b[0] != '{' {
		return fmt.Errorf("%s: %T is no JSON object", messageType, v)
	}
	head := `{"message_type":` + strconv.Quote(messageType)
	if b[1] != '}' {
		head += ","
	}
	_, err = w.Write(append(append([]byte(head), b[1:]...), '\n'))
	return err
}

// parseReference reads an argument that names something published.
func parseReference(cmd *cobra.Command, text string) (reference.Reference, error) {
	ref, err := reference.Parse(text)
	switch {
	case err != nil:
		return ref, misuse(cmd, "%w", err)
	case ref.Path != "" || ref.Repository != "":
		return ref, misuse(cmd, "%s: --store says which repository; want KIND/NAME[@VERSION|:CHANNEL]", text)
	}
	return ref, nil
}

// parseChannel reads the arguments KIND/NAME and CHANNEL.
func parseChannel(cmd *cobra.Command, name, channel string) (reference.Reference, error) {
	ref, err := parseReference(cmd, name)
	if err != nil {
		return ref, err
	}
	if ref.Version != "" || ref.Channel != "" {
		return ref, misuse(cmd, "%s: want KIND/NAME alone; the channel is an argument of its own", name)
	}
	ref.Channel = channel
	if err := ref.Validate(); err != nil {
		return ref, misuse(cmd, "%w", err)
	}
	return ref, nil
}
