"""Operations: submitted by people, claimed by workers, swept by beat.  The only Celery tasks are here."""
