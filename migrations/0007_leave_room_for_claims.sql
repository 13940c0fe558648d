-- Fill factor 45 for jobs. A claim adds the lease to its row (token, two instants: 32 bytes and their alignment), so that a
-- page that was filled to a half has no room for new versions of all its rows: of a claim of 500, one in nine went to
-- another page, with new entries in every index. Pages that are filled stay as they are; the table is emptied and filled
-- all the time.
-- Previous release: notices nothing.
ALTER TABLE jobs SET (fillfactor = 45);
