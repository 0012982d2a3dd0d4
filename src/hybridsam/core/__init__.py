"""What everything stands on: messages, settings, files and their provenance; imports nothing above itself."""
