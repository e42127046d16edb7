"""What one looks at: sheets, videos, single maps and keys, drawn from predictions."""
