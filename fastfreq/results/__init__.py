"""What a measurement leaves: results that merge, their files and tables; it knows no measurement and no plot."""
