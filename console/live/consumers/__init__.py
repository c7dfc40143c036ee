"""One consumer a kind of page; each authorises the object it is asked for, and again while it stays open."""
