package cache

// Waiting is how many wait for what k names to be stored.
func (c *Cache) Waiting(k Key) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if fl := c.flights[k]; fl != nil {
		return fl.waiters
	}
	return 0
}
