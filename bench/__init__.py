"""What enrichlog costs, each figure beside a named baseline that was measured in the same run."""
