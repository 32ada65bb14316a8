//! HTTP by hand: what a client library would not send, or not in this order.

use crate::LIMIT;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers by lower-case name.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

impl Connection {
    /// Connects to `http://ADDRESS`.
    pub fn open(base: &str) -> Result<Self> {
        let address = base.strip_prefix("http://").context("is an http address")?;
        let stream = TcpStream::connect(address)?;
        // A body right after its head must not wait until the head is acknowledged.
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, reader })
    }

    /// A second handle that only writes.
    pub fn writer(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// Sends a POST with a body of JSON.
    pub fn post_json(&mut self, path: &str, headers: &[&str], body: &str) -> Result<Answer> {
        let length = format!("content-length: {}", body.len());
        self.post(path, &[headers, &[&length]].concat())?;
        self.send(body.as_bytes())?;
        self.answer()
    }

    /// Whether the server closes the connection; what it still sends is thrown away.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Sends no more, and goes on reading.
    pub fn half_close(&self) -> Result<()> {
        Ok(self.stream.shutdown(std::net::Shutdown::Write)?)
    }

    /// Sends the head of a POST.
    pub fn post(&mut self, path: &str, headers: &[&str]) -> Result<()> {
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: test\r\n");
        for header in headers {
            head += header;
            head += "\r\n";
        }
        self.send(format!("{head}\r\n").as_bytes())
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Waits for the first byte of an answer, and leaves it there.
    pub fn wait(&self) -> Result<()> {
        Ok(self.stream.peek(&mut [0]).map(drop)?)
    }

    /// Reads one answer with a content-length, or a 1xx without.
    pub fn answer(&mut self) -> Result<Answer> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).context("a status line")?.parse()?;
        let mut headers = HashMap::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header")?;
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(Answer { status, headers, body })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
