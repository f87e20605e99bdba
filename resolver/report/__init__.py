"""Report: values → text. Pure; nothing here prints."""
