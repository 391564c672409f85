package manifest

import "fmt"

// maxName bounds a repository's name, in bytes.
const maxName = 60

// CheckName reports as [ErrName] a text that cannot be a repository's fully
// qualified name: at most 60 characters, a letter or digit and then letters,
// digits, '_', '.' and '-' (CVMFS-FORMAT 5.4). What it accepts is safe as one
// component of a path.
func CheckName(fqrn string) error {
	if fqrn == "" {
		return fmt.Errorf("%w: it is empty; give one such as rootfs.example.org", ErrName)
	}
	if len(fqrn) > maxName {
		return fmt.Errorf("%w: %q… has %d characters, %d are allowed", ErrName, fqrn[:maxName], len(fqrn), maxName)
	}
	for i := range len(fqrn) {
		c := fqrn[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if alnum || i > 0 && (c == '_' || c == '.' || c == '-') {
			continue
		}
		return fmt.Errorf("%w: %q has %q at position %d; a name is a letter or digit and then letters, digits, '_', '.' or '-'",
			ErrName, fqrn, c, i+1)
	}
	return nil
}
