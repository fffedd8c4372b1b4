package receipt

import "context"

// piece is the content of one statement.
type piece[R row] struct {
	rows []R
	junk []R // rows that can never be written, because they hold no ids
	// idle are index entries without rows.
	idle []entry
}

// cutter divides rows into pieces and sends them.
type cutter[R row] struct {
	to chan<- *piece[R]
	p  *piece[R]
}

func (c *cutter[R]) add(ctx context.Context, rows []R) error {
	for _, r := range rows {
		if r.valid() {
			c.p.rows = append(c.p.rows, r)
		} else {
			c.p.junk = append(c.p.junk, r)
		}
		if len(c.p.rows) == pieceRows {
			if err := c.send(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cutter[R]) end(ctx context.Context) error {
	if len(c.p.rows)+len(c.p.junk)+len(c.p.idle) == 0 {
		return nil
	}
	return c.send(ctx)
}

func (c *cutter[R]) send(ctx context.Context) error {
	select {
	case c.to <- c.p:
		c.p = &piece[R]{rows: make([]R, 0, pieceRows)}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
