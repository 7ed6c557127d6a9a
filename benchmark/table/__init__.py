"""What is asked for: recipes, table files, published values, selection, teachers."""
