package cli

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
)

func newWhitelist() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "whitelist sign|install|show",
		Short: "Say which release keys count, and until when",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return misuse(cmd, "say what to do: sign, install or show")
		},
	}
	cmd.AddCommand(newWhitelistSign(), newWhitelistInstall(), newWhitelistShow())
	return cmd
}

type whitelistSignFlags struct {
	keys, name, in, out, hash string
	certificates              []string
	days                      int
	json                      *bool
}

// validLine is a whitelist that was signed or installed.
type validLine struct {
	Repository   string    `json:"repository"`
	Certificates int       `json:"certificates"`
	Expires      time.Time `json:"expires"`
	File         string    `json:"file"`
	// Verified is of one that was installed: whether its signature was checked.
	Verified *bool `json:"verified,omitempty"`
}

func newWhitelistSign() *cobra.Command {
	var f whitelistSignFlags
	cmd := &cobra.Command{
		Use:   "sign --keys DIR --name FQRN --out FILE",
		Short: "Sign a whitelist with the master key; no repository is needed",
		Long: `Sign a whitelist with the master key FQRN.masterkey in DIR, on whatever machine that
is kept. It lists the certificates of --certificate and those of the whitelist
--in, which the same master key must have signed; with neither, FQRN.crt in DIR.
Bring FILE to the repository with rootstock whitelist install.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringVar(&f.keys, "keys", "", "directory of FQRN.masterkey")
	cmd.Flags().StringVar(&f.name, "name", "", "fully qualified repository name")
	cmd.Flags().StringVar(&f.in, "in", "", "whitelist to prolong: its certificates stay listed")
	cmd.Flags().StringArrayVar(&f.certificates, "certificate", nil, "FILE.crt to list; may be repeated")
	cmd.Flags().IntVar(&f.days, "days", int(manifest.WhitelistValidity.Hours()/24), "how long it counts")
	cmd.Flags().StringVar(&f.hash, "hash", object.SHAKE128.String(), "of new fingerprints: shake128, sha1 or rmd160, as the repository has it")
	cmd.Flags().StringVar(&f.out, "out", "", "file to write; never replaced")
	f.json = wantsJSON(cmd)
	required(cmd, "keys", "name", "out")
	return cmd
}

func (f *whitelistSignFlags) run(cmd *cobra.Command) error {
	if err := manifest.CheckName(f.name); err != nil {
		return misuse(cmd, "--name: %w", err)
	}
	if f.days < 1 {
		return misuse(cmd, "--days %d: a whitelist has to count for a day at least", f.days)
	}
	r := manifest.Renewal{Name: f.name, Now: time.Now(), Validity: time.Duration(f.days) * 24 * time.Hour}
	var err error
	if r.Algorithm, err = object.ParseAlgorithm(f.hash); err != nil {
		return misuse(cmd, "--hash: %w", err)
	}
	master, err := manifest.ReadMasterKey(f.keys, f.name)
	if err != nil {
		return err
	}
	if f.in != "" {
		old, err := f.prolong(master)
		if err != nil {
			return err
		}
		r.Listed = old.Fingerprints
		if len(r.Listed) > 0 && !cmd.Flags().Changed("hash") {
			r.Algorithm = r.Listed[0].Algorithm
		}
	}
	files := f.certificates
	if len(files) == 0 && f.in == "" {
		files = []string{filepath.Join(f.keys, f.name+".crt")}
	}
	for _, file := range files {
		text, err := readSmall(file)
		if err != nil {
			return fmt.Errorf("certificate: %w; name it with --certificate FILE", err)
		}
		c, err := manifest.ParseCertificate(text)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", file, err)
		}
		r.Certificates = append(r.Certificates, c)
	}
	w := r.Whitelist()
	raw, err := w.Sign(master, r.Algorithm)
	if err != nil {
		return err
	}
	if err := writeFresh(f.out, raw); err != nil {
		return err
	}
	if *f.json {
		return typed(cmd.OutOrStdout(), "whitelist_signed", validLine{f.name, len(w.Fingerprints), w.End(), f.out, nil})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "signed a whitelist of %s with %d certificates, which counts until %s: %s\n",
		f.name, len(w.Fingerprints), w.End().Format(time.RFC3339), f.out)
	return nil
}

// prolong reads the whitelist --in, which master must have signed: this is no
// place to bless what somebody else wrote.
func (f *whitelistSignFlags) prolong(master *rsa.PrivateKey) (w manifest.Whitelist, err error) {
	raw, err := readSmall(f.in)
	if err != nil {
		return w, fmt.Errorf("whitelist: %w", err)
	}
	if w, err = manifest.OpenWhitelist(raw, []*rsa.PublicKey{&master.PublicKey}); err != nil {
		return w, fmt.Errorf("%s: %w", f.in, err)
	}
	if w.Name != f.name {
		return w, fmt.Errorf("%s: %w: it is that of %.80q", f.in, manifest.ErrName, w.Name)
	}
	return w, nil
}

func newWhitelistInstall() *cobra.Command {
	var st string
	var keys []string
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "install FILE --store STORE",
		Short: "Put a whitelist that was signed elsewhere into the repository",
		Long: `Put a whitelist that was signed elsewhere into the repository. It is refused if it
is another repository's, has expired, or does not list the certificate that the
newest revision is signed with: each would shut out every cell. With --key its
signature is checked as cells will check it.`,
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openStore(st)
			if err != nil {
				return err
			}
			raw, err := readSmall(args[0])
			if err != nil {
				return fmt.Errorf("whitelist: %w", err)
			}
			masters, err := manifest.LoadPublicKeys(keys...)
			if err != nil {
				return err
			}
			was, is, err := publisher.InstallWhitelist(cmd.Context(), s, raw, masters, time.Now())
			if err != nil {
				return fmt.Errorf("install %s: %w", args[0], err)
			}
			out := cmd.OutOrStdout()
			if *asJSON {
				verified := len(masters) > 0
				return typed(out, "whitelist_installed", validLine{is.Name, len(is.Fingerprints), is.End(), args[0], &verified})
			}
			fmt.Fprintf(out, "the whitelist of %s lists %d certificates and counts until %s\n", is.Name, len(is.Fingerprints), is.End().Format(time.RFC3339))
			if len(masters) == 0 {
				fmt.Fprintln(out, "note: its signature was not checked; --key FQRN.pub does")
			}
			if is.End().Before(was.End()) {
				fmt.Fprintf(out, "note: the one before counted longer, until %s\n", was.End().Format(time.RFC3339))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&st, "store", "", "directory of the repository, or s3://BUCKET/PREFIX")
	cmd.Flags().StringArrayVar(&keys, "key", nil, "FQRN.pub, the master public key cells have; may be repeated")
	asJSON = wantsJSON(cmd)
	required(cmd, "store")
	return cmd
}

// trustLine is what `rootstock whitelist show --json` prints.
type trustLine struct {
	MessageType  string    `json:"message_type"`
	Name         string    `json:"name"`
	Created      time.Time `json:"created"`
	Expires      time.Time `json:"expires"`
	Expired      bool      `json:"expired"`
	Fingerprints []string  `json:"fingerprints"`
	Certificate  string    `json:"certificate"` // fingerprint of the one in use
	Listed       bool      `json:"listed"`
}

func newWhitelistShow() *cobra.Command {
	var f readFlags
	cmd := &cobra.Command{
		Use:   "show --store STORE",
		Short: "Print a repository's whitelist",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := openStore(f.store)
			if err != nil {
				return err
			}
			t, err := publisher.ReadTrusted(cmd.Context(), st)
			if err != nil {
				return err
			}
			return printTrusted(cmd.OutOrStdout(), t, f.json)
		},
	}
	f.add(cmd.Flags())
	required(cmd, "store")
	return cmd
}

func printTrusted(out io.Writer, t *publisher.Trusted, asJSON bool) error {
	w := t.Whitelist
	l := trustLine{
		MessageType: "whitelist", Name: w.Name, Created: w.Created, Expires: w.End(), Expired: w.Expired(time.Now()),
		Fingerprints: []string{}, Listed: t.Listed,
	}
	algorithm := object.SHAKE128
	var text bytes.Buffer
	for _, f := range w.Fingerprints {
		use := ""
		if f == t.Certificate.Fingerprint(f.Algorithm) {
			use, algorithm = "  in use", f.Algorithm
		}
		l.Fingerprints = append(l.Fingerprints, manifest.FormatFingerprint(f))
		fmt.Fprintf(&text, "  %s%s\n", manifest.FormatFingerprint(f), use)
	}
	l.Certificate = manifest.FormatFingerprint(t.Certificate.Fingerprint(algorithm))
	if asJSON {
		return line(out, l)
	}
	left := fmt.Sprintf("%d days left", int(time.Until(l.Expires).Hours()/24))
	if l.Expired {
		left = "EXPIRED: no cell takes new revisions"
	}
	fmt.Fprintf(out, "repository %s\ncreated    %s\nexpires    %s, %s\ncertificates\n%s",
		w.Name, w.Created.Format(time.RFC3339), l.Expires.Format(time.RFC3339), left, text.String())
	if !t.Listed {
		fmt.Fprintf(out, "the newest revision is signed with %s, which is NOT listed: no cell takes it\n", l.Certificate)
	}
	return nil
}

// readSmall reads a file that a key's owner named.
func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, manifest.MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(b) > manifest.MaxSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, manifest.MaxSize)
	}
	return b, nil
}

// writeFresh writes a file that must not be there yet.
func writeFresh(file string, b []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) // #nosec G302 -- public
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
