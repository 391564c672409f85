package rootfsprovider

import "context"

// SetStep makes p call step after each step of create and delete. An error
// fails the operation there.
func SetStep(p *Provider, step func(name string) error) { p.step = step }

// Lock takes a handle's lock, as a create or delete under way has it.
func Lock(p *Provider, handle string) (release func(), err error) {
	if err := p.store.init(); err != nil {
		return nil, err
	}
	l, err := tryLock(p.store.lock(handle))
	return l.release, err
}

// LockAndRemove waits for the lock at path, calls f and removes the lock.
func LockAndRemove(path string, f func()) error {
	l, err := takeLock(context.Background(), path)
	if err != nil {
		return err
	}
	f()
	return l.remove()
}
