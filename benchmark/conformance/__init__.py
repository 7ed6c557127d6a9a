"""What every method must hold, checked on any of them, a user's own too; and what each costs."""
