"""Commands that change clusters: what they are about, who agrees, and how it went."""
